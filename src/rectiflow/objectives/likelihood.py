"""Maximum likelihood: `min E -log p(x)` over the target's points, in nats, or `-log p(x | c)` where c is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from rectiflow.models.model import Density, Model
from rectiflow.networks.network import Build
from rectiflow.objectives.objective import ALONE, Turns, begun
from rectiflow.pairs import Pairs, Points


@dataclass(frozen=True)
class Likelihood:
    """Maximum likelihood of a density `model` of noise N(0, I): its loss is the negative log-likelihood, nats a row. That of
    a conditional model is given the condition of the row.
    """

    network: Build
    model: Callable[[Build, Points, Sequence[Generator]], Density]

    data: ClassVar[type[Points | Pairs]] = Points
    trains: ClassVar[type[Model]] = Density
    players: ClassVar[Mapping[str, Turns]] = ALONE
    smooth: ClassVar[bool] = False
    gaussian_source: ClassVar[bool] = True

    def begin(self, data: Points, generators: Sequence[Generator], start: Density | None = None) -> Density:
        """An untrained density in the units of the points; or one that goes on from `start`. Raises ValueError as
        the model does.
        """
        if start:
            return start.copied()
        return begun(self.model, self.network, data, generators)

    def draw(self, model: Density, data: Points, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """The points, `(steps, batch, dim)`, and of a conditional model their conditions, `(steps, batch, conditions)`."""
        x, given = data.x[rows.to(data.x.device)], data.given(rows) if model.conditional else None
        return (x,) if given is None else (x, given)

    def losses(self, player: str, model: Density, average: Density, batch: tuple[Tensor, ...]) -> Tensor:
        """`-log p(x)`, `(seeds, batch)`."""
        x, *given = batch
        found: Tensor = -(model.given(*given) if given else model).log_prob(x)
        return found
