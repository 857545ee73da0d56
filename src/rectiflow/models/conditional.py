"""A velocity field for every condition: that of a class, or of further numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.guided import Guided
from rectiflow.models.informed import Forgetful, complete
from rectiflow.models.model import Field
from rectiflow.models.velocity import Velocity
from rectiflow.networks.network import Build
from rectiflow.pairs import Pairs
from rectiflow.ranges import inside


@dataclass(frozen=True)
class Conditional(Forgetful, Velocity):
    """`v(t, x, c)`, which carries the source to the law of x1 given c; `v(t, x)` without one is the field of all together.
    `given` binds the conditions of draws.
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

    def seen(self, t: Tensor, xt: Tensor, data: Pairs, rows: Tensor, generator: Generator) -> Tensor:
        """Points and conditions, of which a share is left out at random."""
        return self.columns(t, xt, self.told(data, rows, generator))

    def __call__(self, t: Tensor, x: Tensor, c: Tensor | None = None) -> Tensor:
        """v for x `(seeds, batch, dim)`, t `()` or `(seeds, batch)`, and c `(seeds, batch, conditions)`, or none."""
        return self.velocity(t, x, lambda t, x: self.predict(t, x, c))

    def predict(self, t: Tensor, x: Tensor, c: Tensor | None = None) -> Tensor:
        """What the network is trained on."""
        return self.frame.speed * self.network.through(self.theta, self.columns(t, x, c)).mT

    def columns(self, t: Tensor, x: Tensor, c: Tensor | None = None) -> Tensor:
        """What the network sees; all may have axes before that of the seeds."""
        c = x.new_zeros((*x.shape[:-1], self.conditions)) if c is None else c
        return self.network.columns(self.scaled(t, x), t, *c.unbind(-1))

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """v without a condition, and its derivatives along directions `(k, seeds, batch, dim)`."""
        return Field.slopes(self, t, x, directions)

    def under(self, conditions: Tensor) -> Guided:
        return Guided(self, conditions)
