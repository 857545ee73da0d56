"""Annealed Langevin dynamics: noise that is taken away level by level."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.models.model import Field, Model
from rectiflow.predictions import convert, ends
from rectiflow.ranges import at_least, positive
from rectiflow.solvers import Solution
from rectiflow.stops import first, noise


@dataclass(frozen=True)
class Langevin:
    """`inner` steps `x + r alpha^2 s(t, x) + alpha sqrt(2 r) z` at each of `levels` times t in the middle of equal parts of
    the span, r the `rate` and s the score (NCSN; Song and Ermon, arXiv 1907.05600). It sets out from `alpha x0`. From one
    level to the next x / beta stays, which is the data with noise of deviation alpha / beta: the levels are NCSN's for that.
    From the last a point goes to the mean of x1.

    Where the noise is narrower than the data, steps of its size move little, and what a wider level left stays: a Gaussian
    comes out 6 to 16 in a hundred too wide by these defaults, and two thirds of that or less with four times the levels. In
    a trained field its errors add up on the way instead. W2 over its floor, for mixtures in the plane on four paths, is 1.0
    to 1.5 in the exact field, to 1.25 at a rate of 0.5; in fields trained on two moons 2.0 to 2.3, from 2.2 to 2.8 at 0.5.

    One evaluation a step, and one for the mean: `steps` is the number of all but that.
    """

    needs: ClassVar[type[Model]] = Field
    score: ClassVar[bool] = True
    levels: int = 50
    inner: int = 4
    rate: float = 0.3

    def __post_init__(self) -> None:
        at_least(1, levels=self.levels, inner=self.inner)
        positive(rate=self.rate)

    @property
    def label(self) -> str:
        return f"langevin({self.levels} x {self.inner})"

    @property
    def steps(self) -> int:
        """All steps."""
        return self.levels * self.inner

    def starts(self, path: Interpolant) -> bool:
        """Always: no level is at the start."""
        return True

    def __call__(self, model: Field, x0: Tensor, generator: Generator, trajectory: bool = False) -> Solution:
        """From source points x0 `(..., dim)` along the levels of a path's noise."""
        path, low = model.path, first(model.path)
        edges = torch.linspace(low, path.span[1], self.levels + 1, dtype=torch.float64)
        stops = ((edges[1:] + edges[:-1]) / 2).to(x0)
        x = path.alpha(stops[0]) * x0
        states = [path.start(x0)]
        for before, t in pairwise([stops[0], *stops]):
            alpha = path.alpha(t)
            x = path.beta(t) / path.beta(before) * x
            for _ in range(self.inner):
                score = convert(path, t, x, model(t, x), "velocity", "score")
                x = x + self.rate * alpha.square() * score + alpha * (2 * self.rate) ** 0.5 * noise(x, generator)
            states.append(x)
        states.append(ends(path, stops[-1], xt=x, ut=model(stops[-1], x))[1])
        shown = torch.cat([stops.new_tensor([low]), stops, stops.new_tensor([path.span[1]])])
        kept = torch.stack(states if trajectory else [states[0], states[-1]])
        return Solution(shown if trajectory else shown[[0, -1]], kept, self.steps + 1)
