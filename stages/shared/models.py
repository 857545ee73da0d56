"""Trained models on disk: `model.safetensors` holds the weights of all seeds by player, the frame, and what is needed to
build model and network again.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from rectiflow.models import MODELS
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model, Weights
from rectiflow.networks import NETWORKS
from stages.shared.io import read_weights, write_weights
from stages.shared.params import described, name_of, named

FRAME = ("shift", "scale", "speed")
OWN = ("network", "weights", "frame")  # of a model's fields, those that are no options


def write_model(path: Path, model: Model, seeds: list[int]) -> None:
    """Weights, frame and description of a model."""
    tensors = {name: getattr(model.frame, name) for name in FRAME} | dict(model.weights)
    options = {field.name: getattr(model, field.name) for field in fields(model) if field.name not in OWN}
    options |= {name: described(name_of(table, options[name]), options[name]) for name, table in model.parts.items()}
    spec = {
        "model": {"name": MODELS.name(type(model)), **options},
        "network": described(NETWORKS.name(type(model.network)), model.network),
        "players": list(model.weights),
        "seeds": seeds,
    }
    write_weights(path, {name: tensor.cpu().numpy() for name, tensor in tensors.items()}, spec)


def read_model(path: Path) -> tuple[Any, list[int]]:
    """A trained model and the seeds of its rows."""
    arrays, spec = read_weights(path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    frame = Frame(*(tensors[name] for name in FRAME))
    weights: Weights = {name: tensors[name] for name in spec["players"]}
    options = {name: value for name, value in spec["model"].items() if name != "name"}
    kind = MODELS[spec["model"]["name"]]
    options |= {name: named(table, options[name], name) for name, table in kind.parts.items()}
    model = kind(named(NETWORKS, spec["network"], "network"), weights, frame, **options)
    return model, spec["seeds"]


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
