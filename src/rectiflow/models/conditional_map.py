"""Maps between any two times of the flow of every condition: that of a class, or of further numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Generator, Tensor

from rectiflow.models.flow_map import FlowMap
from rectiflow.models.frame import Frame
from rectiflow.models.informed import Forgetful, complete
from rectiflow.networks.network import Build
from rectiflow.networks.told import Told
from rectiflow.pairs import Pairs
from rectiflow.ranges import inside


@dataclass(frozen=True)
class ConditionalMap(Forgetful, FlowMap):
    """`X_{s,t}(x, c) = x + (t - s) u(s, t, x, c)` for the flow of every condition c. Its network sees c behind x and the
    times.

    Without a condition the map is that of the mean velocity of all together where the pairs are those of a path; of pairs
    that flows of several conditions drew it is a map to no law, as the same x0 leads to several x1.
    """

    conditions: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        inside("[0, 1)", dropout=self.dropout)

    @classmethod
    def begin(
        cls, build: Build, data: Pairs, generators: Sequence[Generator], frame: Frame, conditions: int = 0, **options: Any
    ) -> Self:
        """Untrained, for the conditions of the data. Raises ValueError where it has none, or a seed's rows lack a class."""
        known = complete(cls, data)
        return replace(super().begin(build, data, generators, frame, known, **options), conditions=known)

    def seen(self, s: Tensor, t: Tensor, xs: Tensor, data: Pairs, rows: Tensor, generator: Generator) -> Tensor:
        return self.under(self.told(data, rows, generator)).columns(s, t, xs)

    def columns(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self._free(x).columns(s, t, x)

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self._free(x).slopes(t, x, directions)

    def under(self, conditions: Tensor) -> FlowMap:
        return FlowMap(Told(self.network, conditions), self.weights, self.frame, self.path)

    def _free(self, x: Tensor) -> FlowMap:
        """The map of points for which nothing is given."""
        return self.under(x.new_zeros((*x.shape[:-1], self.conditions)))
