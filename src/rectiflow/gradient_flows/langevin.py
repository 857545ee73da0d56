"""The stochastic particle view: `dx = -grad V dt - grad (W * p) dt + sqrt(2 entropy) dB`, by Euler and Maruyama.

The law of x follows the gradient flow itself, in continuous time (Jordan, Kinderlehrer and Otto 1998). Steps of length tau
are those at which it is looked at.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from rectiflow.gradient_flows.points import Blurred, slope
from rectiflow.gradient_flows.scheme import Descent, State, Taught
from rectiflow.ranges import at_least


@dataclass(frozen=True)
class Langevin(Blurred):
    """`points` particles, `substeps` to a step of length tau; energies are estimated with the `bandwidth`."""

    substeps: int = 10

    taught: ClassVar[Taught | None] = "score"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, substeps=self.substeps)

    @property
    def label(self) -> str:
        return f"langevin, {self.points} points, {self.substeps} substeps"

    def fits(self, descent: Descent) -> None:
        """Raises ValueError for too many axes, for energies whose noise depends on the density, or that bound it."""
        super().fits(descent)
        if descent.energy.power or descent.energy.bound < math.inf:
            raise ValueError("name: 'langevin' follows kl, heat, potential and interaction; take particles or grid")

    def step(self, descent: Descent, state: State, generator: Generator) -> State:
        x, h = state["x"], descent.tau / self.substeps
        for _ in range(self.substeps):
            x = x - h * slope(descent.energy, x)
            if descent.energy.entropy:
                z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
                x = x + math.sqrt(2 * h * descent.energy.entropy) * z
        return {"x": x}

    def length(self, descent: Descent, before: State, after: State) -> float:
        """`sqrt(tau (F before - F after))`: along a gradient flow F falls at the rate of the square of its speed in W2, and
        where the points went is mostly noise. 0 where F rose; near rest, where F only scatters, the sum over steps
        is too long.
        """
        fallen = self.energy(descent, before).energy - self.energy(descent, after).energy
        return math.sqrt(descent.tau * max(0.0, fallen))
