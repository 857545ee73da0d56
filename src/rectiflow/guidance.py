"""The sampler of conditional fields that goes further than their conditions ask."""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.models.conditional import Conditional
from rectiflow.models.guided import Guided
from rectiflow.models.model import Model
from rectiflow.ranges import among, at_least
from rectiflow.solvers import TABLEAUX, RungeKutta, Solution


@dataclass(frozen=True)
class Guidance:
    """The flow of `v(t, x) + scale (v(t, x, c) - v(t, x))` by `steps` equal steps of a `solver`; an evaluation counts twice
    where the field is asked twice. It needs a field that was trained with dropout of its conditions.
    """

    needs: ClassVar[type[Model]] = Conditional
    score: ClassVar[bool] = False
    steps: int = 50
    scale: float = 2.0
    solver: str = "euler"

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(0, scale=self.scale)
        among(TABLEAUX, solver=self.solver)

    @property
    def label(self) -> str:
        return f"{self.solver}(guidance {self.scale:g})"

    def starts(self, path: Interpolant) -> bool:
        """Always."""
        return True

    def __call__(self, model: Guided, x0: Tensor, generator: Generator | None = None, trajectory: bool = False) -> Solution:
        """From source points x0 of the model's conditions. Raises ValueError for a field trained without dropout."""
        if self.scale != 1 and not model.field.dropout:
            raise ValueError("guidance: the model was trained with a dropout of 0, and knows no field without a condition")
        field = replace(model, scale=self.scale)
        found = RungeKutta(TABLEAUX[self.solver], self.steps)(field, field.path.start(x0), trajectory)
        return replace(found, nfe=found.nfe * field.passes)
