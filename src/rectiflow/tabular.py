"""A user's rows as a data set: columns of numbers, brought to units of their own, block by block."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rectiflow.dataset import Conditions, Dataset, Empirical, Labels
from rectiflow.mixtures import normal
from rectiflow.ranges import among
from rectiflow.units import Scaled


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


def conditions(names: Sequence[str], target: Columns | Tensor, source: Columns | Tensor | None = None) -> Conditions:
    """Columns of numbers, `(rows, k)` for k names, brought to mean 0 and deviation 1 over the target's rows; those of a
    source get the same map. Raises ValueError for a column that is constant.
    """
    numbers = target[:, 0 : len(names)]
    shift, scale = SCALINGS["standard"](numbers)
    if not (scale > 0).all():
        raise ValueError(f"condition: {names[int((~(scale > 0)).nonzero()[0])]!r} is constant; it tells nothing")
    units = Scaled(shift.tolist(), scale.tolist())
    there, beside = (
        None if side is None else torch.from_numpy(units(side[:, 0 : len(names)].numpy())) for side in (numbers, source)
    )
    assert there is not None
    return Conditions(tuple(names), units, there, beside)


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
