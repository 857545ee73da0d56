"""Rows as users have them, arrays, tensors and tables, as arrays."""

from typing import Any

import numpy as np
from torch import Tensor


def as_array(values: Any) -> np.ndarray:
    """An array from what is one, or from a tensor, or from a column or a table that has `to_numpy`."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    elif hasattr(values, "to_pandas"):  # of Arrow
        values = values.to_pandas()
    return np.array(values.to_numpy() if hasattr(values, "to_numpy") else values)


def as_rows(rows: Any, name: str = "rows") -> np.ndarray:
    """An array `(n, dim)` from an array, a tensor, or a table that has `to_numpy`; one of `(n,)` is one column.

    Raises ValueError for what has more axes, no row, or values that are not finite numbers.
    """
    found = as_array(rows)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or not found.size:
        raise ValueError(f"{name}: an array of shape {found.shape}; it should be (n, dim)")
    if found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise ValueError(f"{name}: every value should be a finite number")
    return found


def names_of(rows: Any) -> tuple[str, ...]:
    """The names of a table's columns, of pandas or Arrow; none of an array."""
    names = getattr(rows, "column_names", getattr(rows, "columns", ()))
    return tuple(str(name) for name in names)
