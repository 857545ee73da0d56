"""Trained velocity fields on disk: `velocity.safetensors`."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rectiflow.interpolants import INTERPOLANTS
from rectiflow.models.frame import Frame
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import VELOCITIES
from stages.shared.io import read_weights, write_weights
from stages.shared.params import named


def describe(table: Mapping[str, type], thing: Any) -> dict[str, Any]:
    """`{name: ..., option: ...}` of an object of a registry."""
    return {"name": next(name for name, kind in table.items() if kind is type(thing)), **asdict(thing)}


def write_velocity(path: Path, velocity: Velocity, seeds: list[int]) -> None:
    """The weights of all seeds by name, the frame, and what is needed to build network and path again."""
    frame = velocity.frame
    tensors = {"theta": velocity.theta, "shift": frame.shift, "scale": frame.scale, "speed": frame.speed}
    spec = {
        "network": describe(VELOCITIES, velocity.network),
        "path": describe(INTERPOLANTS, velocity.path),
        "prediction": velocity.prediction,
        "seeds": seeds,
    }
    write_weights(path, {name: tensor.cpu().numpy() for name, tensor in tensors.items()}, spec)


def read_velocity(path: Path) -> tuple[Velocity, list[int]]:
    """A trained field and the seeds of its rows."""
    arrays, spec = read_weights(path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    network, trained_on = named(VELOCITIES, spec["network"], "network"), named(INTERPOLANTS, spec["path"], "path")
    frame = Frame(tensors["shift"], tensors["scale"], tensors["speed"])
    return Velocity(network, tensors["theta"], frame, trained_on, spec["prediction"]), spec["seeds"]


def write_history(path: Path, steps: list[int], weights: Tensor) -> None:
    """The weights `(points, seeds, size)` after so many training steps each."""
    write_weights(path, {"theta": weights.numpy()}, {"steps": steps})


def read_history(path: Path, velocity: Velocity) -> Iterator[tuple[int, Velocity]]:
    """The field after each of the stored numbers of training steps; `velocity` is the finished one."""
    arrays, spec = read_weights(path)
    for step, theta in zip(spec["steps"], torch.from_numpy(arrays["theta"]), strict=True):
        yield step, replace(velocity, theta=theta.to(velocity.theta.device))
