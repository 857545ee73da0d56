"""Weights that both sides of a comparison have, where no training gives them any."""

import torch
from torch import Generator, Tensor

from rectiflow.networks.network import Network
from rectiflow.weights import initial


def weights(network: Network) -> Tensor:
    """Weights `(1, size)` of which none is zero."""
    generator = Generator().manual_seed(0)
    theta = initial(network, [generator])
    return theta + 0.03 * torch.randn(theta.shape, generator=generator)
