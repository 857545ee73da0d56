"""A conditional field with its conditions bound, and pushed further than it goes by itself."""

from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from rectiflow.derivatives import slopes
from rectiflow.interpolants import Interpolant


@dataclass(frozen=True)
class Guided:
    """`v(t, x) + scale (v(t, x, c) - v(t, x))`: classifier-free guidance (Ho and Salimans, arXiv 2207.12598; for flows Zheng
    et al., arXiv 2311.13443). `scale` 1 is the conditional field itself and asks it once; any other asks it twice, and
    is the flow of no known law: its draws have no likelihood.

    `field(t, x, c)` is a conditional one, without c that of all together; c are the conditions `(seeds, batch, conditions)`
    of the points that it will be asked at.
    """

    field: Any
    c: Tensor
    scale: float = 1.0

    @property
    def path(self) -> Interpolant:
        """The path of the field."""
        path: Interpolant = self.field.path
        return path

    @property
    def passes(self) -> int:
        """How often it asks the field."""
        return 1 if self.scale == 1 else 2

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """v, shaped like x `(seeds, batch, dim)`; t is `()` or `(seeds, batch)`."""
        v: Tensor = self.field(t, x, self.c)
        if self.scale == 1:
            return v
        free: Tensor = self.field(t, x)
        return free + self.scale * (v - free)

    def plain(self) -> Self:
        """The same through operations that have derivatives of every kind."""
        return replace(self, field=self.field.plain())

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """v and its derivatives along directions `(k, seeds, batch, dim)`."""
        return slopes(self.plain(), t, x, directions)
