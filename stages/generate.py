"""Draw or split a data set: the folder `data/generate/NAME`.

A side that is drawn is in `points.parquet`, rows `(seed, side, split, x)`. A finite side is stored once, as SIDE.parquet,
rows `(x)` or `(x, label)`, and its splits as numbers of its rows in `rows.parquet`, rows `(seed, side, split, row)`. A file
without rows is left out. Rows that are known not to be of the target are in `outliers.parquet`. The closed form is in
`oracle.parquet`, without rows where there is none; shape, classes, entropy and a scaled table's units are in `about.json`.

Target splits: `train`, `validation`, `test`, and `floor`, a second sample of the test's size whose distance to it is the
floor of every distance reported. Source splits: `couple` and `reflow`, the draws that pairs are made from, `validation` and
`test`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor

from rectiflow.datasets import DATASETS, Dataset, Distribution, Empirical, Labels, fits
from rectiflow.entropy import LogProb
from rectiflow.mixtures import normal
from rectiflow.registry import described, name_of
from rectiflow.units import UNITS
from stages.shared import places
from stages.shared.compute import stream
from stages.shared.files import rounded, write_json
from stages.shared.io import write_parts, write_table
from stages.shared.params import (
    PARAMS,
    Refused,
    Settings,
    composed,
    finish,
    lookup,
    parse,
    read,
    section,
)
from stages.shared.start import give_back, run
from stages.shared.tables import Numbers, read_labels, read_marks, read_numbers

Splits = dict[tuple[str, str], Tensor]
SIDES = ("source", "target")


class Sizes(Settings):
    """Rows for each seed. `train` may be left out for real data: then it is what the other splits leave."""

    train: int | None = Field(None, ge=2)
    validation: int = Field(ge=1)
    test: int = Field(ge=2)
    pool: int = Field(ge=2)


class Table(Sizes):
    """A user's Parquet file, or a folder with `target.parquet` and `source.parquet`; the column of classes, and the one that
    marks outliers, if any.
    """

    path: str
    columns: list[str] = Field(min_length=1)
    label: str | None = None
    outlier: str | None = None


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
    table, options = composed(Table, DATASETS["parquet"], row, key)
    for name, column in (("label", table.label), ("outlier", table.outlier)):
        if column in table.columns:
            raise Refused(f"{PARAMS}: {key}.{name}: {column!r} is one of columns; it is no coordinate")
    return table, options


def check_table(row: Any, key: str) -> None:
    """Raise Refused for what is wrong with a row of `tables`, its labels and its shape; the numbers are not read."""
    table, options = parse_table(row, key)
    if table.label is not None:
        read_labels(*paths(table, key), table.label, key)
    if table.outlier is not None:
        read_marks(paths(table, key)[0], table.outlier, key)
    if options["shape"] is not None:
        dim = read_numbers(paths(table, key)[0], table.columns, key).shape[1]
        finish(fits, {"shape": options["shape"], "dim": dim}, key)


def gaussian_source(kind: str, row: Any, key: str) -> bool:
    """Whether a data set starts from N(0, I); no table is read for it."""
    if kind == "tables":
        return paths(parse_table(row, key)[0], key)[1] is None
    return build_dataset(kind, row, key)[1].gaussian_source


class Description(NamedTuple):
    """What is known of a data set before its rows are read: the log density of its source, None where it is not known, the
    shape of a row's array, whether some rows are marked as outliers, the levels of a coordinate, 0 for any value, and
    how many classes the target has, 0 where it has none.
    """

    source: LogProb | None
    shape: tuple[int, ...]
    marked: bool
    levels: int = 0
    classes: int = 0

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)


def description(kind: str, row: Any, key: str) -> Description:
    """What is known of a row of `datasets` or `tables`."""
    if kind == "tables":
        table, options = parse_table(row, key)
        given, dim = paths(table, key)[1], read_numbers(paths(table, key)[0], table.columns, key).shape[1]
        source = normal(dim).double().log_prob if given is None else None
        classes = len(read_labels(*paths(table, key), table.label, key).classes) if table.label is not None else 0
        return Description(source, tuple(options["shape"] or [dim]), table.outlier is not None, classes=classes)
    dataset = build_dataset(kind, row, key)[1]
    levels = dataset.units.levels if dataset.units else 0
    classes = len(dataset.labels.classes) if dataset.labels else 0
    return Description(dataset.log_prob("source"), dataset.shape, dataset.outliers is not None, levels, classes)


def parse_builtin(row: Any, key: str) -> tuple[Callable[..., Dataset], Sizes, dict[str, Any]]:
    """A row of `datasets`: the data set's function, the numbers of rows and the options."""
    call, rest = lookup(DATASETS, row, key)
    if call is DATASETS["parquet"]:
        raise Refused(f"{PARAMS}: {key}.name: 'parquet': your own file belongs in the section tables")
    return call, *composed(Sizes, call, rest, key)


def build_dataset(kind: str, row: Any, key: str) -> tuple[Sizes, Dataset]:
    """A row of `datasets` or `tables` as numbers of rows and the data set."""
    if kind == "tables":
        table, options = parse_table(row, key)
        files = paths(table, key)
        labels = None if table.label is None else read_labels(*files, table.label, key)
        marked = None if table.outlier is None else read_marks(files[0], table.outlier, key)
        if labels is not None and marked is not None:
            labels = kept_labels(labels, ~marked, f"{key}.label: {table.label!r}")
        target, source = read_files(files, table.columns, key)
        given = {"target": target, "source": source, "labels": labels, "marked": marked}
        return table, finish(DATASETS["parquet"], options, key, **given)
    call, sizes, options = parse_builtin(row, key)
    return sizes, finish(call, options, key)


def kept_labels(labels: Labels, kept: Tensor, key: str) -> Labels:
    """The classes of the rows that are kept. Raises Refused where these have one class, or a source another."""
    present, place = labels.target[kept].unique(return_inverse=True)
    classes = tuple(labels.classes[int(k)] for k in present)
    if len(classes) < 2:
        raise Refused(f"{PARAMS}: {key} is {classes[0]!r} in all rows that are no outliers; there is nothing to tell")
    if labels.source is not None:
        raise Refused(f"{PARAMS}: {key}: a source with classes of its own cannot stand beside rows that are outliers")
    return Labels(classes, place.int())


def paths(table: Table, key: str) -> tuple[Path, Path | None]:
    """The target's file and, if the path is a folder with two files, the source's."""
    path = Path(table.path)
    if not path.exists():
        raise Refused(f"{PARAMS}: {key}.path: {table.path!r} does not exist")
    if not path.is_dir():
        return path, None
    source = path / "source.parquet"
    return path / "target.parquet", source if source.exists() else None


def read_files(files: tuple[Path, Path | None], columns: list[str], key: str) -> tuple[Numbers, Numbers | None]:
    """The columns of both files, which are of one width."""
    target, source = read_numbers(files[0], columns, key), read_numbers(files[1], columns, key) if files[1] else None
    if source and source.shape[1] != target.shape[1]:
        raise Refused(
            f"{source.path.parent}: source.parquet has {source.shape[1]} dimensions, target.parquet {target.shape[1]}"
        )
    return target, source


def draw(dataset: Dataset, sizes: Sizes, generator: Generator, key: str) -> Splits:
    """All splits of both sides for one seed: points `(n, dim)` of a side that is drawn, row numbers `(n,)` of a table."""
    validation, test, pool = sizes.validation, sizes.test, sizes.pool
    wanted = {"train": sizes.train, "validation": validation, "test": test, "floor": test}
    needed = {"couple": pool, "reflow": pool, "validation": validation, "test": test}
    splits = {("target", name): part for name, part in _split(dataset.target, wanted, "train", generator, key)}
    return splits | {("source", name): part for name, part in _split(dataset.source, needed, "couple", generator, key)}


def _split(
    side: Distribution | Empirical, counts: Mapping[str, int | None], rest: str, generator: Generator, key: str
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
    validation, test = int(counts["validation"] or 0), int(counts["test"] or 0)
    held_out, floor = validation + test, int(counts.get("floor") or 2)
    rows = torch.randperm(len(side.rows), generator=generator)
    left = len(rows) - held_out
    if left < max(2, floor):
        raise Refused(
            f"{PARAMS}: {key}: validation {validation} and test {test} leave {left} of "
            f"{len(rows)} rows; at least as many as test must stay"
        )
    train = rows[held_out:][: counts["train"] if "train" in counts else None]
    for name in counts:
        if name == "validation":
            yield name, rows[:validation]
        elif name == "test":
            yield name, rows[held_out - test : held_out]
        elif name == "floor":
            yield name, rows[held_out : held_out + floor]
        else:
            yield name, train


def as_table(seed: int, splits: Splits, column: str) -> dict[str, Any]:
    """All splits of a seed, which are taken out of `splits`, as one table, split after split: the points or row numbers are
    in the named column.
    """
    sides, names = zip(*splits, strict=True)
    counts = [len(part) for part in splits.values()]
    return {
        "seed": np.full(sum(counts), seed, np.int32),
        "side": np.repeat(sides, counts),
        "split": np.repeat(names, counts),
        column: _taken(splits).numpy(),
    }


def _taken(splits: Splits) -> Tensor:
    """All splits as one tensor. They leave the dictionary one by one, so that no second copy of all is in memory."""
    first = next(iter(splits.values()))
    whole = first.new_empty((sum(map(len, splits.values())), *first.shape[1:]))
    for place in whole.split(list(map(len, splits.values()))):
        place.copy_(splits.pop(next(iter(splits))))
    return whole


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


def about(dataset: Dataset) -> dict[str, Any]:
    """The shape of a row's array, the names of the classes, and the target's entropy in nats a point; null: not known. With
    what brought a table's rows from their own units.
    """
    entropy, units = dataset.entropy(), dataset.units
    scaled = {} if units is None else {"units": described(name_of(UNITS, units), units)}
    return scaled | {
        "shape": list(dataset.shape),
        "classes": list(dataset.labels.classes) if dataset.labels else None,
        "entropy": None if entropy is None else rounded(entropy),
    }


def finite_table(dataset: Dataset, side: str) -> dict[str, np.ndarray]:
    """The rows of a finite side, and their classes where it has some."""
    labels = getattr(dataset.labels, side, None) if dataset.labels else None
    columns = {"x": getattr(dataset, side).rows.numpy()}
    return columns if labels is None else columns | {"label": labels.numpy()}


def write_finite(name: str, dataset: Dataset) -> Dataset:
    """Write the finite sides; a file that the data set no longer has goes. What comes back knows of their rows how many and
    how wide they are, and no longer holds them: a large table is not in memory together with what is drawn.
    """
    for side in (*SIDES, "outliers"):
        write_parts(places.table(name, side), [finite_table(dataset, side)] if _finite(dataset, side) else [])
    return replace(dataset, source=_hollow(dataset.source), target=_hollow(dataset.target), outliers=None)


def _hollow(side: Distribution | Empirical) -> Distribution | Empirical:
    return Empirical(torch.zeros(()).expand(side.rows.shape)) if isinstance(side, Empirical) else side


def _finite(dataset: Dataset, side: str) -> bool:
    return isinstance(getattr(dataset, side), Empirical)


def write(name: str, dataset: Dataset, splits: Iterator[tuple[int, Splits]]) -> None:
    """All other files of a data set from the splits of seed after seed; those that it no longer has go."""
    rows: list[dict[str, Any]] = []

    def points() -> Iterator[dict[str, Any]]:
        for seed, of_seed in splits:
            numbers = {where: of_seed.pop(where).int() for where in list(of_seed) if _finite(dataset, where[0])}
            rows.extend([as_table(seed, numbers, "row")] if numbers else [])
            yield from [as_table(seed, of_seed, "x")] if of_seed else []

    write_parts(places.points(name), points())
    write_parts(places.rows(name), rows)
    write_table(places.oracle(name), closed_form(dataset))
    write_json(places.about(name), about(dataset))


def main(args: list[str]) -> None:
    """`python -m stages.generate datasets NAME` or `... tables NAME`."""
    kind, name = args
    key, content = f"{kind}.{name}", read()
    seeds = build_seeds(content)
    give_back()
    sizes, dataset = build_dataset(kind, section(content, key), key)
    dataset = write_finite(name, dataset)
    write(name, dataset, ((seed, draw(dataset, sizes, stream(f"generate/{name}", seed), key)) for seed in seeds))


if __name__ == "__main__":
    run(main)
