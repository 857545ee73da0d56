"""Paths whose points keep their size, which is what the networks of maps are made for."""

import torch

from rectiflow.interpolants import Interpolant


def unscaled(path: Interpolant) -> None:
    """Raises ValueError where a path scales its points by time, as a map's network does not."""
    if path.size(torch.zeros(())) is not None:
        raise ValueError(f"interpolant: {path} scales its points by time, which this network does not")
