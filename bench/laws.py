"""What both sides of the comparisons on transitions and on tokens share: networks with their weights, what is drawn."""

import torch
from torch import Generator, Tensor, nn

from bench import eager
from rectiflow.networks.mlp import MLP
from rectiflow.rollouts import held
from rectiflow.systems import SYSTEMS
from rectiflow.transitions import Transitions
from rectiflow.weights import initial, unpack

PENDULUM = Transitions(SYSTEMS["pendulum"]())
NEXT = MLP(inputs=PENDULUM.dim + 1 + len(PENDULUM.names) + 1, outputs=PENDULUM.dim, width=128, depth=4)
"""It sees x, a time, a condition, and a one that says that there is a condition."""
VALUES, TOKENS = 64, 2
CELLS = MLP(inputs=TOKENS * VALUES, outputs=TOKENS * VALUES, width=128, depth=3)


def weights(network: MLP) -> Tensor:
    """Weights `(1, size)` of which none is zero."""
    generator = Generator().manual_seed(0)
    theta = initial(network, [generator])
    return theta + 0.03 * torch.randn(theta.shape, generator=generator)


def module(network: MLP) -> nn.Module:
    """The network as a module of torch with these weights."""
    found = eager.network(network.inputs, network.outputs, network.width, network.depth)
    layers = [layer for layer in found if isinstance(layer, nn.Linear)]
    parts = iter(unpack(weights(network), network.shapes).values())
    with torch.no_grad():
        for layer, weight, bias in zip(layers, parts, parts, strict=True):
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0, 0])
    return found


def starts(n: int, steps: int) -> tuple[Tensor, Tensor]:
    """States `(n, dim)` and the actions `(steps, n, actions)` that follow."""
    generator = Generator().manual_seed(1)
    s = PENDULUM.system.starts(n, generator)
    drawn = torch.stack([PENDULUM.system.box(n, generator)[1] for _ in range(steps // 10 + 1)])
    return s, held(drawn, steps, 10)
