"""What both sides of a comparison on pictures share: the network with its weights, and the pictures."""

import torch
from torch import Generator, Tensor, nn

from rectiflow.networks.unet import UNet
from rectiflow.weights import initial, unpack

SHAPE = (1, 28, 28)
DIM = 28 * 28
NETWORK = UNet(inputs=DIM + 1, outputs=DIM, sides=SHAPE[1:])


def noise(n: int, seed: int) -> Tensor:
    """Pictures `(n, DIM)`: how long a step takes does not depend on what they show."""
    return torch.randn(n, DIM, generator=Generator().manual_seed(seed))


def weights() -> Tensor:
    """Weights `(1, size)` of which none is zero."""
    generator = Generator().manual_seed(0)
    theta = initial(NETWORK, [generator])
    return theta + 0.03 * torch.randn(theta.shape, generator=generator)


def module() -> nn.Module:
    """The network as a module of torch with these weights."""
    found = NETWORK.module()
    found.load_state_dict({name: weight[0] for name, weight in unpack(weights(), NETWORK.shapes).items()})
    return found
