"""Files that a word of the command writes, and files of rows that it reads."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rectiflow.files import replacing
from stages.shared.io import read_table
from stages.shared.params import Refused

FORMATS = (".parquet", ".csv", ".npy")
Columns = Sequence[tuple[str, int]]  # names and widths


def free(path: Path, force: bool) -> None:
    """Raise Refused where there is something already, unless it may go."""
    if path.exists() and not force:
        raise Refused(f"{path} exists; --force writes it anew")


def format_of(path: Path) -> str:
    """How a table is to be written, by how the file's name ends. Raises Refused for another ending."""
    if path.suffix not in FORMATS:
        raise Refused(f"{path}: should end in {', '.join(FORMATS)}")
    return path.suffix


def write_rows(
    path: Path,
    rows: np.ndarray,
    columns: Columns,
    beside: Mapping[str, np.ndarray] | None = None,
    words: Sequence[Sequence[str | int | bool]] = (),
) -> None:
    """Rows `(n, dim)` under the names of their columns, those of several numbers as vectors, and what is `beside` them. With
    `words` the rows are tokens, which are places among those of their column.
    """
    parts, begin = {}, 0
    if words:
        named = zip(columns, words, rows.T, strict=True)
        parts, columns = {name: np.array(of)[column] for (name, _), of, column in named}, ()
    for name, width in columns:
        parts[name] = rows[:, begin] if width == 1 else rows[:, begin : begin + width]
        begin += width
    for name, part in (beside or {}).items():
        while name in parts:
            name += "_"
        parts[name] = part
    write_columns(path, parts)


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Columns `(n,)` or `(n, width)` in the format that the file's name says. Raises Refused for text in one of numbers."""
    kind, flat = format_of(path), {name: part.reshape(len(part), -1) for name, part in columns.items()}
    if kind == ".npy" and (texts := [name for name, part in columns.items() if part.dtype.kind == "U"]):
        raise Refused(f"{path}: holds numbers, and {texts[0]} is text; .parquet and .csv hold both")
    with replacing(path) as temporary:
        if kind == ".parquet":
            pq.write_table(pa.table({name: arrow(part) for name, part in columns.items()}), temporary)
        elif kind == ".npy":
            with temporary.open("wb") as file:
                np.save(file, np.concatenate([*flat.values()], 1), allow_pickle=False)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                lines = csv.writer(file, lineterminator="\n")
                lines.writerow(header(columns))
                lines.writerows(zip(*(cells(column) for part in flat.values() for column in part.T), strict=True))


def cells(column: np.ndarray) -> Iterator[str]:
    """The values of a column `(n,)` as text, numbers with all of their digits."""
    digits = {"f": ".9g", "d": ".17g"}.get(column.dtype.char, "")
    return (format(value, digits) for value in column.tolist())


def arrow(part: np.ndarray) -> pa.Array:
    """A column as it is, vectors too, whose numbers stages would store in single precision."""
    if part.dtype.kind in "Ub":
        return pa.array(part.tolist())
    flat = np.ascontiguousarray(part).reshape(-1)  # `pa.array` would import pandas
    numbers = pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])
    return numbers if part.ndim == 1 else pa.FixedSizeListArray.from_arrays(numbers, part.shape[1])


def header(columns: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A name for each number of a row: those of a vector are counted."""
    for name, part in columns.items():
        yield from [name] if part.ndim == 1 else (f"{name}_{k}" for k in range(part.shape[1]))


def read_rows(path: Path, columns: Columns) -> np.ndarray:
    """Rows `(n, dim)` of a Parquet file in the columns' order; where that is one column of several numbers, and the file has
    none of that name, all of its columns side by side.

    Raises Refused for a file or a column that is not there, for others than numbers or another number of them, and for
    values that are missing.
    """
    table, names = _read(path), [name for name, _ in columns]
    wanted = list(table) if len(names) == 1 and columns[0][1] > 1 and names[0] not in table else names
    parts = dict(zip(wanted, _taken(path, table, wanted), strict=True))
    if not parts or not len(next(iter(parts.values()))):
        raise Refused(f"{path}: there is no row")
    for name, part in parts.items():
        if part.dtype.kind not in "iuf" or not np.isfinite(part).all():
            raise Refused(f"{path}: column {name!r} should hold a number in every row")
    found = np.concatenate([part.reshape(len(part), -1).astype(np.float64) for part in parts.values()], 1)
    if found.shape[1] != (dim := sum(width for _, width in columns)):
        raise Refused(f"{path}: {', '.join(parts)} hold {found.shape[1]} numbers a row, and the model is of {dim}")
    return found


def read_columns(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Columns of a Parquet file as they are. Raises Refused for a file or a column that is not there."""
    return _taken(path, _read(path), names)


def _read(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return read_table(path)
    except (FileNotFoundError, ValueError) as error:
        raise Refused(f"{path}: {error if path.exists() else 'does not exist'}") from error


def _taken(path: Path, table: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
    if missing := [name for name in names if name not in table]:
        raise Refused(f"{path}: column {missing[0]!r} is not one of {', '.join(table)}")
    return [table[name] for name in names]
