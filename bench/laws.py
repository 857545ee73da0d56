"""What both sides of the comparisons on transitions and on tokens share: networks with their weights, what is drawn."""

import torch
from torch import Generator, Tensor, nn

from bench import eager
from bench.weights import weights
from rectiflow.networks.mlp import MLP
from rectiflow.rollouts import changes, held
from rectiflow.systems import SYSTEMS
from rectiflow.transitions import Transitions
from rectiflow.weights import unpack

PENDULUM = Transitions(SYSTEMS["pendulum"]())
NEXT = MLP(inputs=PENDULUM.dim + 1 + len(PENDULUM.names) + 1, outputs=PENDULUM.dim, width=128, depth=4)
"""It sees x, a time, a condition, and a one that says that there is a condition."""
VALUES, TOKENS = 64, 2
CELLS = MLP(inputs=TOKENS * VALUES, outputs=TOKENS * VALUES, width=128, depth=3)


def module(network: MLP) -> nn.Module:
    """The network as a module of torch with these weights."""
    found = eager.network(network.inputs, network.outputs, network.width, network.depth)
    eager.load(found, [part[0] for part in unpack(weights(network), network.shapes).values()])
    return found


def starts(n: int, steps: int) -> tuple[Tensor, Tensor]:
    """States `(n, dim)` and the actions `(steps, n, actions)` that follow."""
    generator = Generator().manual_seed(1)
    s = PENDULUM.system.starts(n, generator)
    drawn = torch.stack([PENDULUM.system.box(n, generator)[1] for _ in range(changes(steps, 10))])
    return s, held(drawn, steps, 10)
