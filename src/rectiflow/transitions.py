"""Transitions of a system as a law of x given c: x is the change of the state in a step, counted in deviations of its noise,
and c are the state and the action before it, brought to mean 0 and deviation 1 over the box they are drawn from.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow.systems import System
from rectiflow.units import Scaled


@dataclass(frozen=True)
class Transitions:
    """The transitions of a system from states and actions that are uniform in its box. Where `whole`, x is not the change
    but the next state, brought to the units of the state before.
    """

    system: System
    whole: bool = False

    @property
    def dim(self) -> int:
        """Numbers of a state."""
        return len(self.system.states)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of states and actions."""
        return (*self.system.states, *self.system.actions)

    @cached_property
    def units(self) -> Scaled:
        """What brings changes of the state, or next states, to x."""
        if self.whole:
            return Scaled(self.told.shift[: self.dim], self.told.scale[: self.dim])
        return Scaled([0.0] * self.dim, self.system.size.tolist())

    @cached_property
    def told(self) -> Scaled:
        """What brings states and actions to c: a uniform number has the deviation of its span over the root of 12."""
        spans = np.asarray(self.system.spans)
        return Scaled(spans.mean(1).tolist(), ((spans[:, 1] - spans[:, 0]) / 12**0.5).tolist())

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n independent draws of x and c side by side, `(n, dim + numbers)`."""
        states, actions = self.system.box(n, generator)
        return torch.cat([self.at(states, actions, generator), self.condition(states, actions)], 1)

    def grid(self, states: int, actions: int) -> tuple[Tensor, Tensor]:
        """All pairs of states `(n, dim)` and actions at so many places on each axis of the box, not at its ends."""
        spans, dim = self.system.spans, self.dim
        axes = [
            torch.linspace(low + (high - low) / 10, high - (high - low) / 10, states if k < dim else actions)
            for k, (low, high) in enumerate(spans)
        ]
        places = torch.cartesian_prod(*axes)
        return places[:, :dim], places[:, dim:]

    def at(self, states: Tensor, actions: Tensor, generator: Generator) -> Tensor:
        """A draw of x for each state and action, `(n, dim)`."""
        after = self.system.step(states, actions, generator)
        return torch.from_numpy(self.units(after.numpy())) if self.whole else (after - states) / self.system.size

    def after(self, states: Tensor, x: Tensor) -> Tensor:
        """The next states, from the x of each, `(n, dim)`."""
        return torch.from_numpy(self.units.back(x.numpy())).float() if self.whole else states + self.system.size * x

    def condition(self, states: Tensor, actions: Tensor) -> Tensor:
        """c of states and actions, `(n, numbers)`."""
        return torch.from_numpy(self.told(torch.cat([states, actions], 1).numpy()))
