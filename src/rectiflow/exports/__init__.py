"""Trained models as files that need no rectiflow: a format's name and the function that writes it."""

from rectiflow.registry import Registry

FORMATS = Registry({"onnx": "rectiflow.exports.onnx:files", "torch": "rectiflow.exports.programs:files"})
