"""Pairs of distributions to transport, source -> target.

A distribution draws `sample(n, generator) -> (n, dim)` in float32. Where both sides are Gaussian mixtures the flow between
them is known in closed form (see `mixtures`). Real data is a finite table, `Empirical`: its rows are split, not drawn.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from rectiflow.mixtures import GaussianMixture, normal


class Distribution(Protocol):
    """Anything with independent draws, `(n, dim)` float32."""

    def sample(self, n: int, generator: Generator) -> Tensor: ...


@dataclass(frozen=True)
class Sampler:
    """A distribution given by its sampling function."""

    draw: Callable[[int, Generator], Tensor]

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.draw(n, generator)


@dataclass(frozen=True)
class Empirical:
    """A finite data set, `(rows, dim)`."""

    rows: Tensor


@dataclass(frozen=True)
class Dataset:
    """A transport problem: x0 ~ source, x1 ~ target."""

    source: Distribution | Empirical
    target: Distribution | Empirical

    @property
    def oracle(self) -> tuple[GaussianMixture, GaussianMixture] | None:
        """Both sides as mixtures when the problem has a closed form, else None."""
        sides = (self.source, self.target)
        return sides if all(isinstance(side, GaussianMixture) for side in sides) else None

    @property
    def gaussian_source(self) -> bool:
        """Whether x0 ~ N(0, I), which some paths and every score conversion need."""
        source = self.source
        unit = isinstance(source, GaussianMixture) and len(source.weights) == 1
        return unit and bool((source.means == 0).all() and (source.stds == 1).all())


def _mixture(means: Tensor, std: float) -> GaussianMixture:
    k = len(means)
    return GaussianMixture(torch.full((k,), 1 / k), means, torch.full((k,), std))


def eight_gaussians(radius: float, std: float) -> GaussianMixture:
    """Eight isotropic Gaussians of equal weight, evenly spaced on a circle."""
    angles = torch.arange(8) * (math.pi / 4)
    return _mixture(radius * torch.stack([angles.cos(), angles.sin()], 1), std)


def _uniform(n: int, generator: Generator, columns: int = 1) -> Tensor:
    return torch.rand(n, columns, generator=generator).squeeze(1)


def _blurred(curve: Tensor, noise: float, generator: Generator) -> Tensor:
    return curve + noise * torch.randn(curve.shape, generator=generator)


def two_moons(noise: float, scale: float) -> Sampler:
    """Two interleaved half circles of radius 1, blurred by `noise`, then times `scale` and centred near the origin."""

    def draw(n: int, generator: Generator) -> Tensor:
        angle, upper = math.pi * _uniform(n, generator), _uniform(n, generator) < 0.5
        x = torch.where(upper, angle.cos(), 1 - angle.cos())
        y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
        return scale * (_blurred(torch.stack([x, y], 1), noise, generator) - torch.tensor([0.5, 0.25]))

    return Sampler(draw)


def checkerboard_squares(scale: float) -> Sampler:
    """Uniform on the eight black squares of a 4 x 4 board with sides `2 scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        corner = torch.stack([column, row], 1)
        return scale * ((corner + _uniform(n, generator, 2)) / 2 - 1)

    return Sampler(draw)


def s_curve(noise: float, scale: float) -> Sampler:
    """An S of two three-quarter circles of radius 1, one above the other, blurred by `noise`, then times `scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        angle = 3 * math.pi * (_uniform(n, generator) - 0.5)
        curve = torch.stack([angle.sin(), angle.sign() * (angle.cos() - 1)], 1)
        return scale * _blurred(curve, noise, generator)

    return Sampler(draw)


def two_spirals(noise: float, scale: float, turns: float) -> Sampler:
    """Two spiral arms, each the other turned by half a circle, reaching radius `scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        radius, arm = _uniform(n, generator).sqrt(), _uniform(n, generator) < 0.5
        angle = 2 * math.pi * turns * radius
        curve = torch.where(arm, 1.0, -1.0)[:, None] * radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        return scale * _blurred(curve, noise, generator)

    return Sampler(draw)


def bimodal(*, distance: float = 2.0) -> Dataset:
    """N(0, I) -> 1/2 N((-d, 0), I) + 1/2 N((d, 0), I): the exercise with a closed form."""
    return Dataset(normal(2), _mixture(torch.tensor([[-distance, 0.0], [distance, 0.0]]), 1.0))


def moons(
    *, radius: float = 5.0, std: float = 1.0, noise: float = 0.1, scale: float = 3.0, source: str = "8gaussians"
) -> Dataset:
    """Eight Gaussians on a circle, or N(0, I) (`source`: 8gaussians or normal), -> two moons."""
    return Dataset(
        _among(source, {"8gaussians": eight_gaussians(radius, std), "normal": normal(2)}), two_moons(noise, scale)
    )


def gaussians(
    *, radius: float = 5.0, std: float = 0.5, noise: float = 0.1, scale: float = 3.0, source: str = "normal"
) -> Dataset:
    """N(0, I), or two moons (`source`: normal or moons), -> eight Gaussians on a circle; from N(0, I) in closed form."""
    return Dataset(_among(source, {"normal": normal(2), "moons": two_moons(noise, scale)}), eight_gaussians(radius, std))


def _among(source: str, choices: dict[str, Distribution]) -> Distribution:
    if source not in choices:
        raise ValueError(f"source: {source!r} is not one of {', '.join(choices)}")
    return choices[source]


def checkerboard(*, scale: float = 2.0) -> Dataset:
    """N(0, I) -> the black squares of a 4 x 4 board."""
    return Dataset(normal(2), checkerboard_squares(scale))


def scurve(*, noise: float = 0.1, scale: float = 1.5) -> Dataset:
    """N(0, I) -> a noisy S."""
    return Dataset(normal(2), s_curve(noise, scale))


def spirals(*, noise: float = 0.03, scale: float = 3.0, turns: float = 1.0) -> Dataset:
    """N(0, I) -> two interleaved spiral arms."""
    return Dataset(normal(2), two_spirals(noise, scale, turns))


def digits() -> Dataset:
    """N(0, I) -> scikit-learn's 1797 handwritten digits, 8 x 8 pixels, as 64 numbers in [-1, 1]."""
    from sklearn.datasets import load_digits  # 1.5 s of imports that only this data set needs

    pixels = torch.from_numpy(load_digits().data).float()
    return Dataset(normal(64), Empirical(pixels / 8 - 1))


def table(target: Tensor, source: Tensor | None = None, *, scaling: str = "none") -> Dataset:
    """A user's rows as target `(rows, dim)`; the source is N(0, I) or a second table of the same columns.

    `scaling` brings the target's columns to `standard` (mean 0, deviation 1) or `range` ([-1, 1]) units, or leaves them;
    a second table gets the same map, which comes from
    all rows, the test's included. Raises ValueError for constant columns, which have no scale.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling: {scaling!r} is not one of {', '.join(SCALINGS)}")
    shift, scale = SCALINGS[scaling](target.double())
    if not (scale > 0).all():
        raise ValueError(f"scaling: {scaling!r} cannot scale column {int((~(scale > 0)).nonzero()[0])}: it is constant")

    def scaled(rows: Tensor) -> Empirical:
        points = ((rows.double() - shift) / scale).float()
        if not torch.isfinite(points).all():
            raise ValueError(f"scaling: {scaling!r} leaves values that single precision cannot hold")
        return Empirical(points)

    return Dataset(normal(target.shape[1]) if source is None else scaled(source), scaled(target))


SCALINGS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "none": lambda rows: (torch.zeros(rows.shape[1]), torch.ones(rows.shape[1])),
    "standard": lambda rows: (rows.mean(0), rows.std(0)),
    "range": lambda rows: ((rows.amax(0) + rows.amin(0)) / 2, (rows.amax(0) - rows.amin(0)) / 2),
}

DATASETS: dict[str, Callable[..., Dataset]] = {
    "bimodal": bimodal,
    "moons": moons,
    "8gaussians": gaussians,
    "checkerboard": checkerboard,
    "scurve": scurve,
    "spirals": spirals,
    "digits": digits,
    "parquet": table,
}
