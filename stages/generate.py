"""Draw or split a data set: `data/generate/NAME/points.parquet`, and its closed form, if it has one, beside it.

Rows are `(seed, side, split, x)`. Target splits: `train`, `validation`, `test`, and `floor`, a second sample of the
test's size whose distance to it is the floor of every distance reported. Source splits: `couple` and `reflow`, the draws
that pairs are made from, `validation` and `test`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Generator, Tensor

from rectiflow.datasets import DATASETS, Dataset, Empirical
from stages.shared.compute import stream
from stages.shared.io import DATA, write_table
from stages.shared.params import PARAMS, Refused, Settings, composed, finish, lookup, parse, read, section
from stages.shared.start import run

Splits = dict[tuple[str, str], Tensor]


class Sizes(Settings):
    """Rows for each seed. `train` may be left out for real data: then it is what the other splits leave."""

    train: int | None = Field(None, ge=2)
    validation: int = Field(ge=1)
    test: int = Field(ge=2)
    pool: int = Field(ge=2)


class Table(Sizes):
    """A user's Parquet file, or a folder with `target.parquet` and `source.parquet`."""

    path: str
    columns: list[str] = Field(min_length=1)


class Seeds(Settings):
    """The seeds of every stochastic stage."""

    seeds: list[int] = Field(min_length=1)


def build_seeds(content: Mapping[str, Any]) -> list[int]:
    """The section `seeds`: whole numbers from 0 on, each once."""
    seeds = parse(Seeds, {"seeds": section(content, "seeds")}, "").seeds
    for k, seed in enumerate(seeds):
        if not 0 <= seed < 2**31 or seed in seeds[:k]:
            raise Refused(f"{PARAMS}: seeds: {seed} must be a whole number from 0 to 2^31 - 1, and appear once")
    return seeds


def parse_table(row: Any, key: str) -> tuple[Table, dict[str, Any]]:
    """A row of `tables`: the file and its rows, and how to scale it."""
    return composed(Table, DATASETS["parquet"], row, key)


def parse_builtin(row: Any, key: str) -> tuple[Callable[..., Dataset], Sizes, dict[str, Any]]:
    """A row of `datasets`: the data set's function, the numbers of rows and the options."""
    call, rest = lookup(DATASETS, row, key)
    if call is DATASETS["parquet"]:
        raise Refused(f"{PARAMS}: {key}.name: 'parquet': your own file belongs in the section tables")
    return call, *composed(Sizes, call, rest, key)


def build_dataset(kind: str, row: Any, key: str) -> tuple[Sizes, Dataset]:
    """A row of `datasets` or `tables` as numbers of rows and the data set."""
    if kind == "tables":
        sizes, options = parse_table(row, key)
        target, source = read_files(sizes, key)
        return sizes, finish(DATASETS["parquet"], options, key, target=target, source=source)
    call, sizes, options = parse_builtin(row, key)
    return sizes, finish(call, options, key)


def read_files(table: Table, key: str) -> tuple[Tensor, Tensor | None]:
    """The target's rows and, if the path is a folder with two files, the source's."""
    path = Path(table.path)
    if not path.exists():
        raise Refused(f"{PARAMS}: {key}.path: {table.path!r} does not exist")
    if path.is_dir():
        target = read_columns(path / "target.parquet", table.columns, key)
        if not (path / "source.parquet").exists():
            return target, None
        source = read_columns(path / "source.parquet", table.columns, key)
        if source.shape[1] != target.shape[1]:
            raise Refused(f"{path}: source.parquet has {source.shape[1]} dimensions, target.parquet {target.shape[1]}")
        return target, source
    return read_columns(path, table.columns, key), None


def read_columns(path: Path, columns: list[str], key: str) -> Tensor:
    """The named columns side by side, `(rows, dim)`; a column of fixed-size vectors gives several."""
    try:
        content = pq.read_table(path)
    except FileNotFoundError as error:
        raise Refused(f"{path} does not exist") from error
    except pa.ArrowInvalid as error:
        raise Refused(f"{path}: not a Parquet file: {error}") from error
    for name in columns:
        if name not in content.column_names:
            raise Refused(f"{PARAMS}: {key}.columns: {name!r} is not one of {', '.join(content.column_names)}")
    if len(content) < 2:
        raise Refused(f"{path}: has {len(content)} row{'s' * (len(content) != 1)}; a distribution needs more")
    return torch.cat([_numbers(path, name, content[name].combine_chunks()) for name in columns], 1)


def _numbers(path: Path, name: str, column: pa.Array) -> Tensor:
    dim, flat = 1, column
    if pa.types.is_fixed_size_list(column.type):
        dim, flat = column.type.list_size, column.flatten()
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        raise Refused(f"{path}: column {name!r} holds {column.type}, not numbers")
    values = flat.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).copy()
    bad = np.flatnonzero(~np.isfinite(values))
    if column.null_count or len(bad):
        first = int(bad[0]) // dim if len(bad) else column.is_null().index(True).as_py()
        raise Refused(
            f"{path}: column {name!r} has {max(len(bad), column.null_count)} missing or infinite values, "
            f"the first in row {first}"
        )
    return torch.from_numpy(values).reshape(-1, dim)


def draw(dataset: Dataset, sizes: Sizes, generator: Generator, key: str) -> Splits:
    """All splits of both sides for one seed."""
    validation, test, pool = sizes.validation, sizes.test, sizes.pool
    wanted = {"train": sizes.train, "validation": validation, "test": test, "floor": test}
    needed = {"couple": pool, "reflow": pool, "validation": validation, "test": test}
    splits = {("target", name): x for name, x in _split(dataset.target, wanted, "train", generator, key)}
    return splits | {("source", name): x for name, x in _split(dataset.source, needed, "couple", generator, key)}


def _split(
    side: Any, counts: Mapping[str, int | None], rest: str, generator: Generator, key: str
) -> Iterator[tuple[str, Tensor]]:
    """Independent draws, or disjoint parts of a shuffled table of which `rest` takes what validation and test leave.

    A table has no second sample to give: `floor` and `reflow` are taken from that rest, which neither test nor validation
    shares.
    """
    if not isinstance(side, Empirical):
        for name, count in counts.items():
            if count is None:
                raise Refused(f"{PARAMS}: {key}.{name} is missing: say how many rows to draw")
            yield name, side.sample(count, generator)
        return
    held_out = counts["validation"] + counts["test"]
    rows = side.rows[torch.randperm(len(side.rows), generator=generator)]
    left = len(rows) - held_out
    if left < max(2, counts.get("floor", 2)):
        raise Refused(
            f"{PARAMS}: {key}: validation {counts['validation']} and test {counts['test']} leave {left} of "
            f"{len(rows)} rows; at least as many as test must stay"
        )
    train = rows[held_out:][: counts["train"] if "train" in counts else None]
    for name, count in counts.items():
        if name == "validation":
            yield name, rows[:count]
        elif name == "test":
            yield name, rows[held_out - count : held_out]
        elif name == "floor":
            yield name, rows[held_out : held_out + count]
        else:
            yield name, train


def as_table(seeds: list[int], splits: list[Splits]) -> dict[str, Any]:
    """All splits of all seeds as one table, seed after seed."""
    parts = [(seed, side, name, x) for seed, split in zip(seeds, splits, strict=True) for (side, name), x in split.items()]
    seed, side, name, x = zip(*parts, strict=True)
    rows = [len(points) for points in x]
    return {
        "seed": np.repeat(np.array(seed, np.int32), rows),
        "side": np.repeat(side, rows),
        "split": np.repeat(name, rows),
        "x": torch.cat(x).numpy(),
    }


def closed_form(dataset: Dataset) -> dict[str, Any]:
    """The components of both mixtures, or a table without rows."""
    sides = dict(zip(("source", "target"), dataset.oracle or (), strict=False))
    dim = next(iter(sides.values())).dim if sides else 1
    return {
        "side": [name for name, mixture in sides.items() for _ in mixture.weights],
        "weight": np.concatenate([np.zeros(0), *(m.weights.double().numpy() for m in sides.values())]),
        "mean": np.concatenate([np.zeros((0, dim)), *(m.means.numpy() for m in sides.values())]),
        "std": np.concatenate([np.zeros(0), *(m.stds.double().numpy() for m in sides.values())]),
    }


def main(args: list[str]) -> None:
    """`python -m stages.generate datasets NAME` or `... tables NAME`."""
    kind, name = args
    key, content = f"{kind}.{name}", read()
    seeds = build_seeds(content)
    sizes, dataset = build_dataset(kind, section(content, key), key)
    splits = [draw(dataset, sizes, stream(f"generate/{name}", seed), key) for seed in seeds]
    write_table(DATA / "generate" / name / "points.parquet", as_table(seeds, splits))
    write_table(DATA / "generate" / name / "oracle.parquet", closed_form(dataset))


if __name__ == "__main__":
    run(main)
