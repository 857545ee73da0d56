"""Artifacts on disk: Parquet tables with vector columns, safetensors weights, JSON. Same content, same bytes.

Vectors are fixed-size lists of float32 or of integers, which arrive as one contiguous array, without Python objects.
Nothing that depends on time, host or writer state is stored. A file is written whole (see `rectiflow.files`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save

from rectiflow.files import replacing, write_bytes

ROW_GROUP, GROUP_NUMBERS = 2**16, 2**22  # a group of rows is encoded in memory

Column = np.ndarray | Sequence[str]


def _table(columns: Mapping[str, Column]) -> pa.Table:
    return pa.Table.from_arrays([_arrow(column) for column in columns.values()], list(columns))


def _arrow(column: Column) -> pa.Array:
    """A column as it is stored. Numbers and strings are made from buffers: `pa.array` imports pandas, which takes 40 MB."""
    if not isinstance(column, np.ndarray) or column.dtype.kind == "U":
        return _strings(column)
    if column.dtype.kind not in "iuf":
        return pa.array(column)
    if column.ndim == 1:
        return _numbers(column)
    flat = np.ascontiguousarray(column, column.dtype if column.dtype.kind in "iu" else np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(_numbers(flat), column.shape[1])


def _strings(column: Column) -> pa.Array:
    texts = [text.encode() for text in column]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))


def _numbers(column: np.ndarray) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(column))
    return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, buffer])


def write_table(path: Path, columns: Mapping[str, Column]) -> None:
    """Write columns: 1-D arrays, `(rows, dim)` arrays of vectors, or strings."""
    write_parts(path, [columns])


def write_parts(path: Path, parts: Iterable[Mapping[str, Column]]) -> None:
    """Write a table part after part, so that they need not be in memory together. Without a part there is no file."""
    tables = map(_table, parts)
    if (table := next(tables, None)) is None:
        return path.unlink(missing_ok=True)
    rows = min(ROW_GROUP, max(1, GROUP_NUMBERS // _width(table.schema)))
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, table.schema, compression="zstd", compression_level=1) as writer,
    ):
        while table is not None:
            writer.write_table(table, rows)
            table = None  # it goes before the next is made
            table = next(tables, None)


def _width(schema: pa.Schema) -> int:
    """Numbers in the widest column of a row."""
    return max(field.type.list_size if pa.types.is_fixed_size_list(field.type) else 1 for field in schema)


def read_table(path: Path, **equal: Any) -> dict[str, np.ndarray]:
    """The columns of a table, of the rows where the named columns have the given values. Vectors are read a group of rows
    at a time into the arrays that come back: no second copy of them is in memory.
    """
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name not in equal]
        masks = [_mask(file, group, equal) for group in range(file.num_row_groups)]
        total, at = sum(map(int, map(np.sum, masks))), 0
        found: dict[str, Any] = {name: _empty(file.schema_arrow.field(name).type, total) for name in names}
        for group, mask in enumerate(masks):
            if not (rows := int(mask.sum())):
                continue
            part = file.read_row_group(group, columns=names)
            for name in names:
                column = part[name].combine_chunks()
                if isinstance(found[name], list):
                    found[name].append(column.filter(pa.array(mask)))
                else:
                    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(mask), -1)
                    np.compress(mask, vectors, axis=0, out=found[name][at : at + rows])
            at += rows
        types = {name: file.schema_arrow.field(name).type for name in names}
    return {name: _numpy(pa.chunked_array(of, types[name])) if isinstance(of, list) else of for name, of in found.items()}


def _mask(file: pq.ParquetFile, group: int, equal: Mapping[str, Any]) -> np.ndarray:
    """Which rows of a group are asked for."""
    mask = np.ones(file.metadata.row_group(group).num_rows, bool)
    if equal:
        part = file.read_row_group(group, columns=list(equal))
        for name, value in equal.items():
            mask &= pc.fill_null(pc.equal(part[name], value), False).to_numpy()
    return mask


def _empty(kind: pa.DataType, rows: int) -> np.ndarray | list[pa.Array]:
    """What a column is read into: vectors into an array, other parts are gathered."""
    return np.empty((rows, kind.list_size), kind.value_type.to_pandas_dtype()) if pa.types.is_fixed_size_list(kind) else []


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return whole.to_numpy(zero_copy_only=False)


def by_seed(table: Mapping[str, np.ndarray]) -> tuple[list[int], dict[str, np.ndarray]]:
    """The seeds of a table and its other columns with a leading seed axis; rows are stored seed after seed."""
    seeds = list(dict.fromkeys(table["seed"].tolist()))
    return seeds, {
        name: column.reshape(len(seeds), -1, *column.shape[1:]) for name, column in table.items() if name != "seed"
    }


def seed_major(seeds: Sequence[int], columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `by_seed`: columns `(seeds, rows, ...)` as a flat table with a seed column."""
    rows = next(iter(columns.values())).shape[1]
    flat = {name: column.reshape(-1, *column.shape[2:]) for name, column in columns.items()}
    return {"seed": np.repeat(np.array(seeds, np.int32), rows), **flat}


def split_parts(seeds: Sequence[int], splits: Mapping[str, Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """A part for each split, columns `(seeds, rows, ...)` as a flat table with columns of the split and the seed."""
    for split, columns in splits.items():
        flat = seed_major(seeds, columns)
        yield {"split": np.repeat([split], len(flat["seed"])), **flat}


def write_weights(path: Path, tensors: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> None:
    """Arrays as safetensors; `spec` says in JSON how to rebuild what they belong to."""
    # One metadata entry: the format does not fix the order of several.
    content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {"spec": json.dumps(spec, sort_keys=True)})
    write_bytes(path, content)


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and spec of a safetensors file."""
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["spec"])
