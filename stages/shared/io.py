"""Artifacts on disk: Parquet tables with vector columns, safetensors weights, JSON. Same content, same bytes.

Vectors are fixed-size lists of float32, which arrive as one contiguous array, without Python objects. Nothing that
depends on time, host or writer state is stored. A write goes to a temporary name and is moved into place, so a file is
either the old one or the new one, whole.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save

DATA = Path("data")
ENDED = "ended"  # a file in place of a round that was not worth it: see stages.rectify
PROGRESS = "progress.parquet"  # what the rounds until then were like
ROW_GROUP = 2**16

Column = np.ndarray | Sequence[str]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` at the end of the block, or goes away if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _arrow(column: Column) -> pa.Array:
    if not isinstance(column, np.ndarray) or column.dtype.kind == "U":
        return pa.array(column, pa.string())
    if column.ndim == 1:
        return pa.array(column)
    flat = np.ascontiguousarray(column, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), column.shape[1])


def write_table(path: Path, columns: Mapping[str, Column]) -> None:
    """Write columns: 1-D arrays, `(rows, dim)` arrays of vectors, or strings."""
    table = pa.table({name: _arrow(column) for name, column in columns.items()})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)


def read_table(path: Path, **equal: Any) -> dict[str, np.ndarray]:
    """The columns of a table, of the rows where the named columns have the given values."""
    table = pq.read_table(path)
    for name, value in equal.items():
        table = table.filter(pc.equal(table[name], value))
    return {name: _numpy(table[name].combine_chunks()) for name in table.column_names if name not in equal}


def _numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):  # an empty column has no chunk to combine
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


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


def write_weights(path: Path, tensors: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> None:
    """Arrays as safetensors; `spec` says in JSON how to rebuild what they belong to."""
    # One metadata entry: the format does not fix the order of several.
    content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {"spec": json.dumps(spec, sort_keys=True)})
    write_bytes(path, content)


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and spec of a safetensors file."""
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["spec"])


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
