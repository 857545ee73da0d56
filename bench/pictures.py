"""What both sides of a comparison on pictures share: the network with its weights, and the pictures."""

import torch
from torch import Generator, Tensor, nn

from bench.weights import weights
from rectiflow.networks.unet import UNet
from rectiflow.weights import unpack

SHAPE = (1, 28, 28)
DIM = 28 * 28
NETWORK = UNet(inputs=DIM + 1, outputs=DIM, sides=SHAPE[1:])


def noise(n: int, seed: int) -> Tensor:
    """Pictures `(n, DIM)`: how long a step takes does not depend on what they show."""
    return torch.randn(n, DIM, generator=Generator().manual_seed(seed))


def module() -> nn.Module:
    """The network as a module of torch with these weights."""
    found = NETWORK.module()
    found.load_state_dict({name: weight[0] for name, weight in unpack(weights(NETWORK), NETWORK.shapes).items()})
    return found
