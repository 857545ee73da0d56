"""A user's Parquet files: columns of numbers, read a block at a time, and a column of labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rectiflow.dataset import Label, Labels
from rectiflow.tokens import FEWEST, MOST
from stages.shared.params import PARAMS, Refused

BATCH, BUFFER = 2**18, 2**16  # numbers that are decoded at a time; bytes of a column that are read at a time
COLUMNS = 8  # that are open at a time: each has a dictionary in memory, as long as the column at worst
CLASSES = 1000


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file, which never has more than BUFFER bytes of a column in memory."""
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            yield file
    except FileNotFoundError as error:
        raise Refused(f"{path} does not exist") from error
    except pa.ArrowInvalid as error:
        raise Refused(f"{path}: not a Parquet file: {error}") from error


@dataclass(frozen=True)
class Numbers:
    """Columns side by side, `(rows, dim)`, that are read when they are asked for: `numbers[:, a:b]`.

    `widths` are those of the columns: one of fixed-size vectors gives several numbers. Integers are of one type that holds
    all columns, and so is what float32 holds; everything else is float64.
    """

    path: Path
    names: tuple[str, ...]
    widths: tuple[int, ...]
    rows: int
    kind: np.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, sum(self.widths)

    @property
    def dtype(self) -> torch.dtype:
        return torch.from_numpy(np.empty(0, self.kind)).dtype

    def __getitem__(self, where: tuple[slice, slice]) -> Tensor:
        """Columns a to b, `(rows, b - a)`. Raises Refused where a value is missing or infinite."""
        first, last, _ = where[1].indices(self.shape[1])
        ends = np.cumsum((0, *self.widths)).tolist()
        columns = zip(self.names, ends, ends[1:], strict=False)
        inside = [(name, begin, end) for name, begin, end in columns if begin < last and first < end]
        block = np.empty((self.rows, last - first), self.kind)
        for k in range(0, len(inside), COLUMNS):
            self._fill(block, first, inside[k : k + COLUMNS])
        return torch.from_numpy(block)

    def single_names(self) -> list[str]:
        """A name for each number: those of a column of vectors are counted."""
        pairs = zip(self.names, self.widths, strict=True)
        return [name if width == 1 else f"{name}[{k}]" for name, width in pairs for k in range(width)]

    def _fill(self, block: np.ndarray, first: int, columns: list[tuple[str, int, int]]) -> None:
        """Write columns `(name, begin, end)`, as far as they are in it, into a block that begins with number `first`."""
        at, last = 0, first + block.shape[1]
        for batch in self._batches([name for name, *_ in columns]):
            for name, begin, end in columns:
                if _missing(batch[name]).any():
                    raise self._refusal()
                numbers = np.from_dlpack(_flat(batch[name])).reshape(len(batch), -1)
                low, high = max(begin, first), min(end, last)
                block[at : at + len(batch), low - first : high - first] = numbers[:, low - begin : high - begin]
            at += len(batch)

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        widths, names = dict(zip(self.names, self.widths, strict=True)), list(dict.fromkeys(names))
        with opened(self.path) as file:
            yield from file.iter_batches(max(1, BATCH // sum(widths[name] for name in names)), columns=names)

    def _refusal(self) -> Refused:
        """What is missing in the first column that misses something."""
        counts = ((name, np.concatenate([_missing(batch[name]) for batch in self._batches([name])])) for name in self.names)
        name, missing = next((name, missing) for name, missing in counts if missing.any())
        return Refused(
            f"{self.path}: column {name!r} has {missing.sum()} missing or infinite values, "
            f"the first in row {np.flatnonzero(missing)[0]}"
        )


def _flat(column: pa.Array) -> pa.Array:
    return column.flatten() if pa.types.is_fixed_size_list(column.type) else column


def _missing(column: pa.Array) -> np.ndarray:
    """How many values each row misses or has infinite, `(rows,)`; a vector that is missing counts as one."""
    flat = _flat(column)
    if column.null_count and flat is not column:
        return column.is_null().to_numpy(zero_copy_only=False).astype(int)
    if pa.types.is_integer(flat.type) and not flat.null_count:
        return np.zeros(len(column), int)
    # `to_numpy` imports pandas, which takes 40 MB; where nothing is missing dlpack does the same.
    numbers = flat.to_numpy(zero_copy_only=False) if flat.null_count else np.from_dlpack(flat)
    return (~np.isfinite(numbers)).reshape(len(column), -1).sum(1)


def read_numbers(path: Path, names: list[str], key: str) -> Numbers:
    """The columns of a file that a key names. Raises Refused where there are no such columns of numbers or too few rows."""
    with opened(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    types = [field(schema, name, key).type for name in names]
    widths = tuple(kind.list_size if pa.types.is_fixed_size_list(kind) else 1 for kind in types)
    kinds = [kind.value_type if pa.types.is_fixed_size_list(kind) else kind for kind in types]
    for name, whole, kind in zip(names, types, kinds, strict=True):
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            hint = "; if they are encoded images, say `images: true`" * (
                pa.types.is_binary(kind) or pa.types.is_struct(kind)
            )
            raise Refused(f"{path}: column {name!r} holds {whole}, not numbers{hint}")
    if rows < 2:
        raise Refused(f"{path}: has {rows} row{'s' * (rows != 1)}; a distribution needs more")
    kind = np.result_type(*(kind.to_pandas_dtype() for kind in kinds))
    small = kind.kind in "iu" or kind == np.float32
    return Numbers(path, tuple(names), widths, rows, kind if small else np.dtype(np.float64))


def field(schema: pa.Schema, name: str, key: str) -> pa.Field:
    """A column that is there once. Raises Refused with the columns there are."""
    if (count := schema.names.count(name)) != 1:
        what = "is there twice" if count else f"is not one of {', '.join(schema.names)}"
        raise Refused(f"{PARAMS}: {key}: {name!r} {what}")
    return schema.field(name)


def read_labels(target: Path, source: Path | None, name: str, key: str) -> Labels:
    """The classes in a column of the target's file and, if it has that column, of the source's.

    Raises Refused unless the column holds strings, integers or booleans, at least two classes and at most CLASSES, one in
    every row.
    """
    column = _categories(target, name, f"{key}.label")
    classes = sorted(column.dictionary.to_pylist())
    if len(classes) == 1:
        raise Refused(f"{PARAMS}: {key}.label: {name!r} is {classes[0]!r} in all rows of {target}; there is nothing to tell")
    if len(classes) > CLASSES:
        raise Refused(f"{PARAMS}: {key}.label: {name!r} has {len(classes)} classes in {target}; {CLASSES} are the most")
    of_source = None
    if source:
        with opened(source) as file:
            there = name in file.schema_arrow.names
        if there:
            of_source = _places(_categories(source, name, f"{key}.label"), classes, source, f"{key}.label: {name!r}")
    return Labels(tuple(classes), _places(column, classes, target, key), of_source)


def read_words(path: Path, name: str, key: str, vocabulary: int | None) -> tuple[tuple[Label, ...], Tensor]:
    """The different values of a column in sorted order, and the place of every row's among them, `(rows,)`. With a
    `vocabulary` they are the whole numbers from 0 to one less.

    Raises Refused unless the column holds strings, integers or booleans, one in every row, of the vocabulary, and as many
    different ones as tokens may have.
    """
    column = _categories(path, name, key)
    found = sorted(column.dictionary.to_pylist())
    words = found if vocabulary is None else list(range(vocabulary))
    if not FEWEST <= len(words) <= MOST:
        many = f"one value, {words[0]!r}," if len(words) == 1 else f"{len(words)} values"
        raise Refused(f"{PARAMS}: {key}: {name!r} has {many} in {path}; tokens have {FEWEST} to {MOST}")
    if unknown := [value for value in found if not isinstance(value, type(words[0])) or value not in words]:
        most = f"0 to {len(words) - 1}"
        raise Refused(f"{PARAMS}: {key}: {name!r} has {unknown[0]!r} in {path}, outside of the vocabulary, {most}")
    return tuple(words), _places(column, words, path, key).long()


def read_marks(path: Path, name: str, key: str) -> Tensor:
    """Which rows a column of numbers or booleans marks, by what is not 0, `(rows,)`.

    Raises Refused where it misses values, or marks no row or all of them.
    """
    with opened(path) as file:
        kind = field(file.schema_arrow, name, f"{key}.outlier").type
        column = file.read([name])[name]
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or kind == pa.bool_()):
        raise Refused(f"{PARAMS}: {key}.outlier: {name!r} holds {kind} in {path}, not numbers or booleans")
    if column.null_count:
        raise Refused(f"{PARAMS}: {key}.outlier: {name!r} has {column.null_count} missing values in {path}")
    numbers = column.to_numpy()
    if not np.isfinite(numbers.astype(np.float64)).all():
        raise Refused(f"{PARAMS}: {key}.outlier: {name!r} has values in {path} that are not numbers")
    marked = numbers != 0
    if marked.all() or not marked.any():
        raise Refused(f"{PARAMS}: {key}.outlier: {name!r} marks {'all' if marked.any() else 'none'} of the rows of {path}")
    return torch.from_numpy(np.ascontiguousarray(marked))


def _categories(path: Path, name: str, key: str) -> pa.DictionaryArray:
    """A column's values, each as a place among the different ones in the order they come in."""
    with opened(path) as file:
        kind = field(file.schema_arrow, name, key).type
        column = file.read([name])[name]
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind) or kind == pa.bool_()):
        raise Refused(f"{PARAMS}: {key}: {name!r} holds {kind} in {path}, not strings, integers or booleans")
    if column.null_count:
        first = pc.index(column.is_null(), True).as_py()
        raise Refused(
            f"{PARAMS}: {key}: {name!r} has {column.null_count} missing values in {path}, the first in row {first}"
        )
    return column.dictionary_encode().combine_chunks()


def _places(column: pa.DictionaryArray, classes: list[Label], path: Path, key: str) -> Tensor:
    """Where among the classes every row's is, `(rows,)` of int32."""
    labels, place = column.dictionary.to_pylist(), {label: k for k, label in enumerate(classes)}
    if unknown := [label for label in labels if label not in place]:
        raise Refused(f"{PARAMS}: {key}: {unknown[0]!r} in {path} is no class of the target, which has {classes}")
    places = np.array([place[label] for label in labels], np.int32)
    return torch.from_numpy(places[np.from_dlpack(column.indices)])
