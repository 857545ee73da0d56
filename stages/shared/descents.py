"""What rows of `gradient_flows` describe: a law to set out from, and the descent."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from rectiflow.dataset import Dataset, Empirical
from rectiflow.gradient_flows.energies import ENERGIES
from rectiflow.gradient_flows.flow import Score
from rectiflow.gradient_flows.line import Line
from rectiflow.gradient_flows.scheme import Descent, Scheme
from rectiflow.mixtures import GaussianMixture
from rectiflow.solvers import VelocityField
from stages.shared.movements import GradientFlow, Side
from stages.shared.params import PARAMS, Refused, named


@dataclass(frozen=True)
class Source:
    """A law to set out from, by its draws and its log density."""

    sampler: Any
    log_prob: Any
    dim: int

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n draws, `(n, dim)`."""
        return self.sampler(n, generator)


def gaussian(*, dataset: Dataset, mean: list[float], std: float = 1.0) -> GaussianMixture:
    """`N(mean, std^2 I)`."""
    return GaussianMixture(torch.ones(1), torch.tensor([mean], dtype=torch.float64), torch.tensor([std])).double()


def side(name: Side, *, dataset: Dataset) -> GaussianMixture | Source:
    """The source or the target of the data set. Raises ValueError where it has no density."""
    law, log_prob = getattr(dataset, name), dataset.log_prob(name)
    if isinstance(law, GaussianMixture):
        return law.double()
    if log_prob is None or isinstance(law, Empirical):
        raise ValueError(f"name: {name!r} needs a data set whose {name} has a known density")
    return Source(law.sample, log_prob, math.prod(dataset.shape))


LAWS: dict[str, Callable[..., Any]] = {
    "gaussian": gaussian,
    "source": partial(side, "source"),
    "target": partial(side, "target"),
}


class Teacher(NamedTuple):
    """What a trained field knows."""

    score: Score
    velocity: VelocityField


def build_descent(row: GradientFlow, dataset: Dataset, teacher: Teacher | None, key: str) -> Descent:
    """The gradient flow that a row describes. Raises Refused in one line."""
    source = named(LAWS, row.source, f"{key}.source", dataset=dataset)
    if source.dim != (dim := math.prod(dataset.shape)):
        raise Refused(f"{PARAMS}: {key}.source: it has {source.dim} dimensions, and {row.dataset} has {dim}")
    target, log_prob = getattr(dataset, row.target), dataset.log_prob(row.target)
    try:
        energy = named(ENERGIES, row.energy, f"{key}.energy").of(log_prob)
    except ValueError as error:
        raise Refused(f"{PARAMS}: {key}.energy.{error}") from error
    mixture = target.double() if isinstance(target, GaussianMixture) and energy.potential is not None else None
    found = Descent(source, energy, row.tau, mixture, steps=row.steps)
    if teacher is None:
        return found
    if row.target == "target":  # the teacher knows the data's slope; that of N(0, I) is known anyway
        start = torch.zeros((), dtype=torch.float64)
        found = replace(found, energy=replace(energy, score=partial(teacher.score, start)))
    return replace(found, score=teacher.score, velocity=teacher.velocity)


def fitting(scheme: Scheme, descent: Descent, key: str) -> None:
    """Raise Refused where a scheme cannot follow a descent."""
    try:
        scheme.fits(descent)
    except ValueError as error:
        raise Refused(f"{PARAMS}: {key}.scheme.{error}") from error


def reference(descent: Descent) -> Line | None:
    """The exact steps, where they are known."""
    try:
        (exact := Line()).fits(descent)
    except ValueError:
        return None
    return exact
