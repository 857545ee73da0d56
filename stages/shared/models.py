"""Trained models on disk: `model.safetensors` holds the weights of all seeds by player, the frame, and what is needed to
build model and network again.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rectiflow.models.model import Model, Weights
from rectiflow.models.record import put_together, taken_apart
from stages.shared.io import read_weights, write_weights


def write_model(path: Path, model: Model, seeds: list[int]) -> None:
    """Weights, frame and description of a model."""
    tensors, spec = taken_apart(model)
    write_weights(path, {name: tensor.cpu().numpy() for name, tensor in tensors.items()}, {**spec, "seeds": seeds})


def read_model(path: Path) -> tuple[Any, list[int]]:
    """A trained model and the seeds of its rows."""
    arrays, spec = read_weights(path)
    return put_together({name: torch.from_numpy(array) for name, array in arrays.items()}, spec), spec["seeds"]


def write_history(path: Path, steps: list[int], history: list[Weights]) -> None:
    """The weights after so many training steps each, by player `(points, seeds, size)`."""
    stacked = {name: torch.stack([weights[name] for weights in history]).numpy() for name in history[0]}
    write_weights(path, stacked, {"steps": steps})


def read_history(path: Path, model: Model) -> Iterator[tuple[int, Model]]:
    """The model after each of the stored numbers of training steps; `model` is the finished one."""
    arrays, spec = read_weights(path)
    for k, step in enumerate(spec["steps"]):
        weights = {name: torch.from_numpy(array[k]).to(model.weights[name].device) for name, array in arrays.items()}
        yield step, replace(model, weights=weights)
