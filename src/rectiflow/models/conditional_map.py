"""Maps between any two times of the flow of every condition: that of a class, or of further numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.conditional import needed
from rectiflow.models.flow_map import FlowMap
from rectiflow.models.frame import Frame
from rectiflow.networks.network import Build
from rectiflow.networks.told import Told
from rectiflow.pairs import Pairs
from rectiflow.ranges import inside


@dataclass(frozen=True)
class ConditionalMap(FlowMap):
    """`X_{s,t}(x, c) = x + (t - s) u(s, t, x, c)` for the flow of every condition c. Its network sees c as so many further
    rows behind x and the times, `conditions`, which are zeros where nothing is given.

    In training the condition is left out of a share of the rows, the `dropout`. Without one the map is that of the mean
    velocity of all together where the pairs are those of a path; of pairs that flows of several conditions drew it is a map
    to no law, as the same x0 leads to several x1.
    """

    conditions: int = 0
    dropout: float = 0.1

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        inside("[0, 1)", dropout=self.dropout)

    @classmethod
    def begin(
        cls, build: Build, data: Pairs, generators: Sequence[Generator], frame: Frame, conditions: int = 0, **options: Any
    ) -> Self:
        """Untrained, for the conditions of the data. Raises ValueError where it has none, or a seed's rows lack a class."""
        needed("conditional_map", data)
        begun = super().begin(build, data, generators, frame, data.conditions, **options)
        return replace(begun, conditions=data.conditions)

    def seen(self, s: Tensor, t: Tensor, xs: Tensor, data: Pairs, rows: Tensor, generator: Generator) -> Tensor:
        kept = (torch.rand(rows.shape, generator=generator) >= self.dropout).to(xs)
        given = data.given(rows)
        assert given is not None
        return self.given(given * kept[..., None]).columns(s, t, xs)

    def columns(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.given(x.new_zeros((*x.shape[:-1], self.conditions))).columns(s, t, x)

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.given(x.new_zeros((*x.shape[:-1], self.conditions))).slopes(t, x, directions)

    def given(self, conditions: Tensor | None) -> FlowMap:
        """The map of draws with these conditions `(seeds, batch, conditions)`. Raises ValueError for another number."""
        if conditions is None:
            return self
        if conditions.shape[-1] != self.conditions:
            raise ValueError(f"conditions: {conditions.shape[-1]} numbers; the model has learned {self.conditions}")
        return FlowMap(Told(self.network, conditions), self.weights, self.frame, self.path)
