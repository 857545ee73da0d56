"""No gradient flow: the way that a trained field takes between the same two laws, looked at by the same numbers.

`x' = v(t, x)` from t = 0, the source, to t = 1, the data; log p is carried along (see `likelihood`).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rectiflow.gradient_flows.points import Timed
from rectiflow.gradient_flows.scheme import Descent, Taught
from rectiflow.models.model import Field
from rectiflow.solvers import VelocityField

END = 1.0  # the time at which a field reaches the data
ROUNDED = 1e-9


@dataclass(frozen=True)
class Velocity(Timed):
    """`points` points, `substeps` steps of the classical Runge-Kutta method to one of length tau."""

    downhill: ClassVar[bool] = False
    taught: ClassVar[Taught | None] = "velocity"

    @property
    def label(self) -> str:
        return f"velocity, {self.points} points, {self.substeps} substeps"

    def fits(self, descent: Descent) -> None:
        """Raises ValueError without a field, and where the steps go beyond t = 1."""
        super().fits(descent)
        if descent.velocity is None:
            raise ValueError("name: 'velocity' follows a trained field: name a teacher")
        if descent.end > END + ROUNDED:
            raise ValueError(f"name: 'velocity' goes from time 0 to 1, and tau times steps is {descent.end:g}")

    def field(self, descent: Descent) -> VelocityField:
        """v."""
        assert descent.velocity is not None
        return descent.velocity


def trained_velocity(field: Field) -> VelocityField:
    """v of points `(n, dim)` in double precision, at times on the span of the field's path."""
    low, high = field.path.span

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return field(t.clamp(low, high).float(), x.float()[None])[0].to(x)

    return velocity
