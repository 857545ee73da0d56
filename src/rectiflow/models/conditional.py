"""A velocity field for every condition: that of a class, or of further numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.guided import Guided
from rectiflow.models.model import Field
from rectiflow.models.velocity import Velocity
from rectiflow.networks.network import Build
from rectiflow.pairs import Pairs
from rectiflow.ranges import inside


@dataclass(frozen=True)
class Conditional(Velocity):
    """`v(t, x, c)`, which carries the source to the law of x1 given c. Its network sees c as so many further rows,
    `conditions`, which are zeros where nothing is given.

    In training the condition is left out of a share of the rows, the `dropout`, so that `v(t, x)` without one is the field
    of all together, which guidance needs (Ho and Salimans, arXiv 2207.12598). `given` binds the conditions of draws.
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
        needed("conditional", data)
        begun = super().begin(build, data, generators, frame, data.conditions, **options)
        return replace(begun, conditions=data.conditions)

    def seen(self, t: Tensor, xt: Tensor, data: Pairs, rows: Tensor, generator: Generator) -> Tensor:
        """Points and conditions, of which a share is left out at random."""
        kept = (torch.rand(rows.shape, generator=generator) >= self.dropout).to(xt)
        given = data.given(rows)
        assert given is not None
        return self.columns(t, xt, given * kept[..., None])

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

    def given(self, conditions: Tensor | None) -> Any:
        """The field of draws with these conditions `(seeds, batch, conditions)`. Raises ValueError for another number."""
        if conditions is None:
            return self
        if conditions.shape[-1] != self.conditions:
            raise ValueError(f"conditions: {conditions.shape[-1]} numbers; the model has learned {self.conditions}")
        return Guided(self, conditions)


def needed(model: str, data: Pairs) -> None:
    """Raises ValueError where there is nothing to learn conditions from."""
    if not data.conditions:
        raise ValueError(f"model: {model} needs a data set with labels or conditions, and this one has none")
    if (missing := data.missing) is not None:
        raise ValueError(f"model: {model}: class {missing} of {data.classes} is in no row to learn from")
