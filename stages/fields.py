"""Trained velocity fields on disk: `velocity.safetensors`."""

from dataclasses import asdict
from pathlib import Path

import torch

from rectiflow.velocities import VELOCITIES, Frame, Velocity
from stages.io import read_weights, write_weights


def write_velocity(path: Path, velocity: Velocity, seeds: list[int]) -> None:
    """The weights of all seeds by name, the frame, and what is needed to build the network again."""
    frame = velocity.frame
    tensors = {"theta": velocity.theta, "shift": frame.shift, "scale": frame.scale, "speed": frame.speed}
    name = next(name for name, kind in VELOCITIES.items() if kind is type(velocity.network))
    spec = {"network": {"name": name, **asdict(velocity.network)}, "seeds": seeds}
    write_weights(path, {name: tensor.cpu().numpy() for name, tensor in tensors.items()}, spec)


def read_velocity(path: Path) -> tuple[Velocity, list[int]]:
    """A trained field and the seeds of its rows."""
    arrays, spec = read_weights(path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    options = dict(spec["network"])
    network = VELOCITIES[options.pop("name")](**options)
    frame = Frame(tensors["shift"], tensors["scale"], tensors["speed"])
    return Velocity(network, tensors["theta"], frame), spec["seeds"]
