"""What every network is: a frozen description of sizes whose weights are passed in, `theta` `(seeds, size)`.

All seeds are computed together, and a seed's numbers must not depend on who computes beside it.
"""

from collections.abc import Sequence
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


def sized(build: Any, *, inputs: int, outputs: int, shape: Sequence[int]) -> Any:
    """The network of so many numbers for rows of a shape: one that sees pictures is told their height and width.

    Raises ValueError for a network of pictures where a row is none.
    """
    found = build(inputs=inputs, outputs=outputs)
    if not hasattr(found, "sides"):
        return found
    if len(shape) != 3:
        sides = " x ".join(map(str, shape))
        raise ValueError(
            f"network: {type(found).__name__} sees pictures, channels x height x width; a row is of shape {sides}"
        )
    return build(inputs=inputs, outputs=outputs, sides=tuple(shape[1:]))


def side_by_side(x: Tensor, *times: Tensor) -> Tensor:
    """What `Network.columns` gives: x transposed, with a row for each time below."""
    rows = [t.expand(x.shape[:-1])[..., None, :] for t in times]
    return torch.cat([x.mT, *rows], -2)
