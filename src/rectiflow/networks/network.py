"""What every network is: a frozen description of sizes whose weights are passed in, `theta` `(seeds, size)`.

All seeds are computed together, and a seed's numbers must not depend on who computes beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from rectiflow.weights import Shapes


class Network(Protocol):
    """A function of points x and times: `network(theta, x, t)`, `network(theta, x, s, t)`, or of x alone.

    Inside, a point is a column: `columns` puts points and times side by side once, also for many batches at a time, and
    `through` takes them from there.
    """

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the order they are stored."""
        ...

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights."""
        ...

    def columns(self, x: Tensor, *times: Tensor) -> Tensor:
        """Points `(..., batch, dim)` and times, each `()` or `(..., batch)`, as columns `(..., dim + times, batch)`."""
        ...

    def through(self, theta: Tensor, columns: Tensor) -> Tensor:
        """The outputs `(seeds, outputs, batch)` for columns `(seeds, dim + times, batch)`."""
        ...

    def __call__(self, theta: Tensor, x: Tensor, *times: Tensor) -> Tensor:
        """The outputs `(seeds, batch, outputs)` for points x `(seeds, batch, dim)` and times."""
        ...


class Build(Protocol):
    """A network of which all is known but how many numbers go in and come out; it runs fused unless that is said."""

    def __call__(self, *, inputs: int, outputs: int, fused: bool = True) -> Network: ...


def sized(build: Build, *, inputs: int, outputs: int, shape: Sequence[int], fused: bool = True) -> Network:
    """The network for rows of this shape, from which one that sees pictures gets their height and width."""
    found: Any = build(inputs=inputs, outputs=outputs, fused=fused)
    pictures = len(shape) == 3 and hasattr(found, "sides")
    network: Network = replace(found, sides=tuple(shape[1:])) if pictures else found
    return network


def side_by_side(x: Tensor, *times: Tensor) -> Tensor:
    """What `Network.columns` gives: x transposed, with a row for each time below."""
    rows = [t.expand(x.shape[:-1])[..., None, :] for t in times]
    return torch.cat([x.mT, *rows], -2)
