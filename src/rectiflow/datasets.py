"""Pairs of distributions to transport, source -> target.

A distribution draws `sample(n, generator) -> (n, dim)` in float32. Where both sides are Gaussian mixtures the flow between
them is known in closed form (see `mixtures`). Real data is a finite table, `Empirical`: its rows are split, not drawn.
Points are flat rows everywhere; `Dataset.shape` says what a row is a picture of.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow.entropy import LogProb, blurred, entropy, gaussian_entropy, nodes
from rectiflow.mixtures import GaussianMixture, normal
from rectiflow.ranges import among
from rectiflow.units import Logit, Scaled, Units

Label = str | int | bool


class Distribution(Protocol):
    """Anything with independent draws, `(n, dim)` float32."""

    def sample(self, n: int, generator: Generator) -> Tensor: ...


@dataclass(frozen=True)
class Law:
    """A distribution given by its sampling function and, where it has one, by its log density: `log_prob(x)` in nats for
    points x `(n, dim)`, and the entropy, which takes a while.
    """

    draw: Callable[[int, Generator], Tensor]
    log_prob: LogProb | None = None
    entropy: Callable[[], float] | None = None

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.draw(n, generator)


def _curve(
    draw: Callable[[int, Generator], Tensor],
    arcs: Sequence[tuple[Tensor, Tensor]],
    noise: float,
    scale: float,
    centre: Tensor,
) -> Law:
    """`scale (c - centre + noise z)` for points c of a curve, given by the nodes and weights of its arcs, z ~ N(0, I)."""
    if not (noise > 0 and scale > 0):
        return Law(draw)  # without a density
    points, weights = (torch.cat(part) for part in zip(*arcs, strict=True))
    log_prob = blurred(points, weights / weights.sum(), noise)
    low, high = ((edge + sign * 8 * noise).tolist() for edge, sign in ((points.amin(0), -1), (points.amax(0), 1)))
    return Law(
        draw,
        lambda x: log_prob(x.double() / scale + centre) - 2 * math.log(scale),
        lambda: entropy(log_prob, low, high, noise / 3) + 2 * math.log(scale),
    )


def _panels(length: float, noise: float) -> int:
    """So many that a panel is shorter than the blur."""
    return max(16, math.ceil(3 * length / max(noise, 1e-3)))


@dataclass(frozen=True)
class Empirical:
    """A finite data set, `(rows, dim)`, of float32 or of integers."""

    rows: Tensor


@dataclass(frozen=True)
class Labels:
    """The classes of finite sides: their names in sorted order, and for each side that has classes the place of every row's
    class among the names, `(rows,)` of int32.
    """

    classes: tuple[Label, ...]
    target: Tensor
    source: Tensor | None = None


@dataclass(frozen=True)
class Dataset:
    """A transport problem: x0 ~ source, x1 ~ target. A row holds the numbers of an array of this `shape`, in C order.
    `units` says what scaled a table, None where nothing did; `outliers` are rows of it that are known not to be of the
    target.
    """

    source: Distribution | Empirical
    target: Distribution | Empirical
    shape: tuple[int, ...] = (2,)
    labels: Labels | None = None
    units: Units | None = None
    outliers: Empirical | None = None

    @property
    def oracle(self) -> tuple[GaussianMixture, GaussianMixture] | None:
        """Both sides as mixtures when the problem has a closed form, else None."""
        source, target = self.source, self.target
        known = isinstance(source, GaussianMixture) and isinstance(target, GaussianMixture)
        return cast(tuple[GaussianMixture, GaussianMixture], (source, target)) if known else None

    @property
    def gaussian_source(self) -> bool:
        """Whether x0 ~ N(0, I), which some paths and every score conversion need."""
        source = self.source
        if not isinstance(source, GaussianMixture) or len(source.weights) > 1:
            return False
        return bool((source.means == 0).all() and (source.stds == 1).all())

    def log_prob(self, side: str) -> LogProb | None:
        """The log density of the `source` or the `target` in nats, for points `(n, dim)`, in double precision; None where it
        is not known.
        """
        law = {"source": self.source, "target": self.target}[side]
        if isinstance(law, GaussianMixture):
            return law.double().log_prob
        return law.log_prob if isinstance(law, Law) else None

    def entropy(self) -> float | None:
        """The differential entropy of the target in nats, below which no negative log-likelihood is on average; None where
        it is not known.
        """
        if isinstance(self.target, GaussianMixture):
            return mixture_entropy(self.target)
        found = self.target.entropy if isinstance(self.target, Law) else None
        return found() if found else None


def mixture_entropy(mixture: GaussianMixture) -> float | None:
    """Of a single Gaussian in closed form, of several in the plane by quadrature, else None."""
    if len(mixture.weights) == 1:
        return gaussian_entropy(mixture.dim, float(mixture.stds))
    if mixture.dim != 2:
        return None
    low, high = ((mixture.means.double() + sign * 9 * mixture.stds[:, None].double()) for sign in (-1, 1))
    step = float(mixture.stds.min()) / 3
    return entropy(mixture.double().log_prob, low.amin(0).tolist(), high.amax(0).tolist(), step)


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


def two_moons(noise: float, scale: float) -> Law:
    """Two interleaved half circles of radius 1, blurred by `noise`, then times `scale` and centred near the origin."""

    def draw(n: int, generator: Generator) -> Tensor:
        angle, upper = math.pi * _uniform(n, generator), _uniform(n, generator) < 0.5
        x = torch.where(upper, angle.cos(), 1 - angle.cos())
        y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
        return scale * (_blurred(torch.stack([x, y], 1), noise, generator) - torch.tensor([0.5, 0.25]))

    halves = (
        lambda angle: torch.stack([angle.cos(), angle.sin()], 1),
        lambda angle: torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1),
    )
    arcs = [nodes(half, 0, math.pi, _panels(math.pi, noise)) for half in halves]
    return _curve(draw, arcs, noise, scale, torch.tensor([0.5, 0.25], dtype=torch.float64))


def checkerboard_squares(scale: float) -> Law:
    """Uniform on the eight black squares of a 4 x 4 board with sides `2 scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        corner = torch.stack([column, row], 1)
        return scale * ((corner + _uniform(n, generator, 2)) / 2 - 1)

    def log_prob(x: Tensor) -> Tensor:
        place = (x.double() / scale + 1) * 2
        black = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for back in (0.0, 1e-5), (1e-5, 0.0), (0.0, 0.0), (1e-5, 1e-5):  # a draw may be rounded onto the next square
            column, row = (place - torch.tensor(back, dtype=place.dtype, device=x.device)).floor().unbind(1)
            black |= (column + row) % 2 == 0
        inside = (x.abs() <= abs(scale)).all(1) & black
        return torch.where(inside, -area(), -math.inf).double()

    def area() -> float:
        return math.log(8 * (scale / 2) ** 2)

    return Law(draw, log_prob, area) if scale else Law(draw)


def s_curve(noise: float, scale: float) -> Law:
    """An S of two three-quarter circles of radius 1, one above the other, blurred by `noise`, then times `scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        angle = 3 * math.pi * (_uniform(n, generator) - 0.5)
        curve = torch.stack([angle.sin(), angle.sign() * (angle.cos() - 1)], 1)
        return scale * _blurred(curve, noise, generator)

    def half(sign: float) -> Callable[[Tensor], Tensor]:
        return lambda angle: torch.stack([angle.sin(), sign * (angle.cos() - 1)], 1)

    end, panels = 1.5 * math.pi, _panels(1.5 * math.pi, noise)
    arcs = [nodes(half(-1), -end, 0, panels), nodes(half(1), 0, end, panels)]
    return _curve(draw, arcs, noise, scale, torch.zeros(2, dtype=torch.float64))


def two_spirals(noise: float, scale: float, turns: float) -> Law:
    """Two spiral arms, each the other turned by half a circle, reaching radius `scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        radius, arm = _uniform(n, generator).sqrt(), _uniform(n, generator) < 0.5
        angle = 2 * math.pi * turns * radius
        curve = torch.where(arm, 1.0, -1.0)[:, None] * radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        return scale * _blurred(curve, noise, generator)

    def arm(sign: float) -> Callable[[Tensor], Tensor]:
        return lambda r: (
            sign * r[:, None] * torch.stack([(2 * math.pi * turns * r).cos(), (2 * math.pi * turns * r).sin()], 1)
        )

    arcs = [nodes(arm(sign), 0, 1, _panels(math.hypot(1, 2 * math.pi * turns), noise)) for sign in (1, -1)]
    arcs = [(points, weights * points.norm(dim=1)) for points, weights in arcs]  # the radius has the density 2 r
    return _curve(draw, arcs, noise, scale, torch.zeros(2, dtype=torch.float64))


def bimodal(*, distance: float = 2.0, start: Sequence[float] = (0.0, 0.0)) -> Dataset:
    """N(start, I) -> 1/2 N((-d, 0), I) + 1/2 N((d, 0), I): the exercise with a closed form."""
    return Dataset(_mixture(torch.tensor([start]), 1.0), _mixture(torch.tensor([[-distance, 0.0], [distance, 0.0]]), 1.0))


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


def grid25(*, spacing: float = 1.5, std: float = 0.1) -> Dataset:
    """N(0, I) -> 25 isotropic Gaussians of equal weight on a square grid, in closed form: a test of whether a model finds
    all modes.
    """
    places = spacing * (torch.arange(5) - 2.0)
    return Dataset(normal(2), _mixture(torch.cartesian_prod(places, places), std))


def _among(source: str, choices: dict[str, Distribution]) -> Distribution:
    among(choices, source=source)
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


def digits(*, alpha: float | None = None) -> Dataset:
    """N(0, I) -> scikit-learn's 1797 handwritten digits, 8 x 8 pixels, as 64 numbers in [-1, 1], with the digit as class.
    With `alpha` they are the logits of the 17 levels, which noise, drawn once, has filled: see `units.Logit`.
    """
    from sklearn.datasets import load_digits  # 1.5 s of imports that only this data set needs

    units = None if alpha is None else Logit(17, alpha)
    found = load_digits()
    labels = Labels(tuple(range(10)), torch.from_numpy(found.target).int())
    if units is None:
        rows = torch.from_numpy(found.data).float() / 8 - 1
    else:
        noise = torch.rand(found.data.shape, generator=Generator().manual_seed(0), dtype=torch.float64)
        rows = torch.from_numpy(units(found.data + noise.numpy()))
    return Dataset(normal(64), Empirical(rows), (1, 8, 8), labels, units)


def breast_cancer() -> Dataset:
    """N(0, I) -> the 357 benign rows of scikit-learn's breast cancer table (Wolberg et al. 1993), 30 numbers brought to mean
    0 and deviation 1; the 212 malignant rows are outliers.
    """
    from sklearn.datasets import load_breast_cancer  # 1.5 s of imports that only this data set needs

    found = load_breast_cancer()
    return table(torch.from_numpy(found.data), marked=torch.from_numpy(found.target == 0), scaling="standard")


class Columns(Protocol):
    """A table `(rows, dim)` that gives `table[:, a:b]`: a tensor, or what reads the columns it is asked for."""

    @property
    def shape(self) -> Sequence[int]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __getitem__(self, where: tuple[slice, slice], /) -> Tensor: ...


def table(
    target: Columns | Tensor,
    source: Columns | Tensor | None = None,
    labels: Labels | None = None,
    marked: Tensor | None = None,
    *,
    scaling: str = "none",
    shape: list[int] | None = None,
) -> Dataset:
    """A user's rows as target `(rows, dim)`; the source is N(0, I) or a second table of the same columns.

    `scaling` brings the target's columns to `standard` (mean 0, deviation 1) or `range` ([-1, 1]) units, or leaves them, and
    then integers stay integers. A second table gets the same map, which comes from all rows, the test's included. `shape`
    is that of a row's array, `(dim,)` if it is left out. Rows that are `marked` `(rows,)` are outliers, of which the target
    has none; they get the same map. Raises ValueError for a shape of another size, and for constant
    columns, which have no scale. The tables are asked for a block of columns at a time, and no double copy of more exists.
    """
    among(SCALINGS, scaling=scaling)
    dim = target.shape[1]
    fits(shape, dim)
    kept = slice(None) if marked is None else ~marked
    rows = target.shape[0] if marked is None else int((~marked).sum())
    whole = _empty(target, rows, scaling)
    outliers = None if marked is None else _empty(target, target.shape[0] - rows, scaling)
    start = None if source is None else _empty(source, source.shape[0], scaling)
    shifts, scales = np.zeros(dim), np.ones(dim)
    for a, b in _blocks(dim):
        block = target[:, a:b]
        beside = None if marked is None else block[marked]
        block = block[kept]
        shift, scale = SCALINGS[scaling](block)
        if not (scale > 0).all():
            constant = a + int((~(scale > 0)).nonzero()[0])
            raise ValueError(f"scaling: {scaling!r} cannot scale column {constant}: it is constant")
        shifts[a:b], scales[a:b] = shift.numpy(), scale.numpy()
        _scale(block, shift, scale, scaling, whole[:, a:b])
        del block  # before the next, or the source's, is read
        if beside is not None and outliers is not None:
            _scale(beside, shift, scale, scaling, outliers[:, a:b])
        if source is not None and start is not None:
            _scale(source[:, a:b], shift, scale, scaling, start[:, a:b])
    return Dataset(
        normal(dim) if start is None else Empirical(start),
        Empirical(whole),
        tuple(shape or [dim]),
        labels,
        None if scaling == "none" else Scaled(shifts.tolist(), scales.tolist()),
        None if outliers is None else Empirical(outliers),
    )


def fits(shape: Sequence[int] | None, dim: int) -> None:
    """Raises ValueError unless an array of this shape, if there is one, holds `dim` numbers."""
    if shape is not None and (not shape or min(shape) < 1 or math.prod(shape) != dim):
        sizes = " x ".join(map(str, shape)) or "nothing"
        raise ValueError(f"shape: {list(shape)} should hold as many numbers as there are columns, {dim}; it is {sizes}")


BLOCK = 32  # columns
ROWS = 4096  # of a block, that are scaled at a time


def _blocks(dim: int) -> Iterator[tuple[int, int]]:
    """`(a, b)`: columns a to b, BLOCK of them, in the last block up to twice as many.

    torch sums 32 columns in one order and what is left of them in another, by the number of columns. In these blocks every
    column is summed as in the whole table.
    """
    starts = range(0, max(dim - BLOCK, 0) + 1, BLOCK)
    return zip(starts, [*starts[1:], dim], strict=True)


def _empty(table: Columns | Tensor, rows: int, scaling: str) -> Tensor:
    whole = scaling == "none" and not table.dtype.is_floating_point
    return torch.empty(rows, table.shape[1], dtype=table.dtype if whole else torch.float32)


def _scale(block: Tensor, shift: Tensor, scale: Tensor, scaling: str, out: Tensor) -> None:
    """Fills `out` with `(block - shift) / scale` in float32, rounded once; integers that nothing scales stay as they are."""
    if not out.is_floating_point():
        out.copy_(block)
        return
    for rows, points in zip(block.split(ROWS), out.split(ROWS), strict=True):
        points.copy_((rows.double() - shift).div_(scale))
        if not torch.isfinite(points).all():
            raise ValueError(f"scaling: {scaling!r} leaves values that single precision cannot hold")


def _none(rows: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(rows.shape[1]), torch.ones(rows.shape[1])


def _standard(rows: Tensor) -> tuple[Tensor, Tensor]:
    rows = rows.double()
    return rows.mean(0), rows.std(0)


def _range(rows: Tensor) -> tuple[Tensor, Tensor]:
    rows = rows.double()
    low, high = rows.amin(0), rows.amax(0)
    return (high + low) / 2, (high - low) / 2


SCALINGS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"none": _none, "standard": _standard, "range": _range}

DATASETS: dict[str, Callable[..., Dataset]] = {
    "bimodal": bimodal,
    "moons": moons,
    "8gaussians": gaussians,
    "grid25": grid25,
    "checkerboard": checkerboard,
    "scurve": scurve,
    "spirals": spirals,
    "digits": digits,
    "breast_cancer": breast_cancer,
    "parquet": table,
}
FINITE = ("digits", "breast_cancer")  # of these, tables whose rows are split, not drawn
