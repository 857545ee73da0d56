"""Draw or split a data set: the folder `data/generate/NAME`.

A side that is drawn is in `points.parquet`, rows `(seed, side, split, x)`, with `condition` where the target has some, which
are zeros of the source. A finite side is stored once, as SIDE.parquet,
rows `(x)` with `label` and `condition` where it has them, and its splits as numbers of its rows in `rows.parquet`, rows
`(seed, side, split, row)`. A file without rows is left out. Rows that are known not to be of the target are in
`outliers.parquet`. The closed form is in `oracle.parquet`, without rows where there is none; shape, classes, entropy, a
scaled table's units, conditions and the vocabulary of tokens are in `about.json`. Tokens are integers on disk, too.

Target splits: `train`, `validation`, `test`, and `floor`, a second sample of the test's size whose distance to it is the
floor of every distance reported. Source splits: `couple` and `reflow`, the draws that pairs are made from, `validation` and
`test`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from rectiflow.dataset import Dataset, Distribution, Empirical
from rectiflow.datasets import DATASETS, FINITE
from rectiflow.entropy import LogProb
from rectiflow.registry import described, name_of
from rectiflow.units import UNITS
from stages.shared import places
from stages.shared.compute import stream
from stages.shared.files import rounded, write_json
from stages.shared.ingest import build_table, outline_table, parse_table, paths
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
from stages.shared.splits import Sizes, Splits, draw, told
from stages.shared.start import give_back, run
from stages.shared.trajectories import are_walks, build_walks

SIDES = ("source", "target")


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


def gaussian_source(kind: str, row: Any, key: str) -> bool:
    """Whether a data set starts from N(0, I); no table is read for it."""
    if kind == "tables":
        return are_walks(row) or paths(parse_table(row, key)[0], key)[1] is None
    return outline(kind, row, key)[1].gaussian_source


class Description(NamedTuple):
    """What is known of a data set before its rows are read: the log density of its source, None where it is not known, the
    shape of a row's array, whether some rows are marked as outliers, the levels of a coordinate, 0 for any value, how many
    classes and conditions come with a row, the vocabulary of tokens, empty for numbers, and whether it is the `whole` next
    state of the one that the condition begins with.
    """

    source: LogProb | None
    shape: tuple[int, ...]
    marked: bool
    levels: int = 0
    classes: int = 0
    condition: int = 0
    vocabulary: tuple[int, ...] = ()
    whole: bool = False

    @property
    def conditions(self) -> int:
        """How many numbers tell a network what is known of a row, as `Points.conditions` counts them."""
        return self.classes + (self.condition + 1 if self.condition else 0)

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)


def description(kind: str, row: Any, key: str) -> Description:
    """What is known of a row of `datasets` or `tables`."""
    dataset = outline(kind, row, key)[1]
    return Description(
        dataset.log_prob("source"),
        dataset.shape,
        dataset.outliers is not None,
        dataset.units.levels if dataset.units else 0,
        len(dataset.labels.classes) if dataset.labels else 0,
        len(dataset.condition.names) if dataset.condition else 0,
        dataset.vocabulary,
        dataset.condition is not None and dataset.condition.whole,
    )


def parse_builtin(row: Any, key: str) -> tuple[Callable[..., Dataset], Sizes, dict[str, Any]]:
    """A row of `datasets`: the data set's function, the numbers of rows and the options."""
    call, rest = lookup(DATASETS, row, key)
    if call is DATASETS["parquet"]:
        raise Refused(f"{PARAMS}: {key}.name: 'parquet': your own file belongs in the section tables")
    return call, *composed(Sizes, call, rest, key)


def build_dataset(kind: str, row: Any, key: str) -> tuple[Sizes, Dataset]:
    """A row of `datasets` or `tables` as numbers of rows and the data set."""
    if kind == "tables":
        return build_walks(row, key) if are_walks(row) else build_table(row, key)
    call, sizes, options = parse_builtin(row, key)
    return sizes, _made(call, options, key)


def outline(kind: str, row: Any, key: str) -> tuple[Sizes, Dataset]:
    """The same before the rows of a finite data set are read: they are zeros."""
    if kind == "tables":
        return build_walks(row, key) if are_walks(row) else outline_table(row, key)
    call, sizes, options = parse_builtin(row, key)
    return sizes, _made(FINITE.get(row["name"], call), options, key)


def _made(call: Callable[..., Dataset], options: Mapping[str, Any], key: str) -> Dataset:
    try:
        return finish(call, options, key)
    except ModuleNotFoundError as error:
        raise Refused(f"{PARAMS}: {key}: {error}") from error


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


def apart(table: dict[str, Any], numbers: int) -> dict[str, Any]:
    """A table whose last columns of x are so many numbers of a condition with these beside it."""
    x = table["x"]
    return table | {"x": x[:, :-numbers], "condition": x[:, -numbers:]} if numbers else table


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
    what brought a table's rows from their own units, and the names and units of conditions.
    """
    entropy, units, condition = dataset.entropy(), dataset.units, dataset.condition
    scaled: dict[str, Any] = {} if units is None else {"units": described(name_of(UNITS, units), units)}
    if condition is not None:
        told = {"names": list(condition.names), "units": described(name_of(UNITS, condition.units), condition.units)}
        scaled["condition"] = told | ({"whole": True} if condition.whole else {})
    if dataset.vocabulary:
        scaled["vocabulary"] = list(dataset.vocabulary)
    if dataset.words:
        scaled["words"] = [list(column) for column in dataset.words]
    return scaled | {
        "shape": list(dataset.shape),
        "classes": list(dataset.labels.classes) if dataset.labels else None,
        "entropy": None if entropy is None else rounded(entropy),
    }


def finite_table(dataset: Dataset, side: str) -> dict[str, np.ndarray]:
    """The rows of a finite side, and their classes and conditions where it has some."""
    beside = {"label": dataset.labels, "condition": dataset.condition}
    found = {name: getattr(of, side, None) for name, of in beside.items()}
    return {"x": getattr(dataset, side).rows.numpy()} | {name: of.numpy() for name, of in found.items() if of is not None}


def write_finite(name: str, dataset: Dataset) -> Dataset:
    """Write the finite sides; a file that the data set no longer has goes. What comes back knows of their rows how many and
    how wide they are, and no longer holds them: a large table is not in memory together with what is drawn.
    """
    for side in (*SIDES, "outliers"):
        write_parts(places.table(name, side), [finite_table(dataset, side)] if _finite(dataset, side) else [])
    return replace(dataset, source=_hollow(dataset.source), target=_hollow(dataset.target), outliers=None)


def _hollow(side: Distribution | Empirical) -> Distribution | Empirical:
    return Empirical.unread(*side.rows.shape) if isinstance(side, Empirical) else side


def _finite(dataset: Dataset, side: str) -> bool:
    return isinstance(getattr(dataset, side), Empirical)


def write(name: str, dataset: Dataset, splits: Iterator[tuple[int, Splits]]) -> None:
    """All other files of a data set from the splits of seed after seed; those that it no longer has go."""
    rows: list[dict[str, Any]] = []

    def points() -> Iterator[dict[str, Any]]:
        for seed, of_seed in splits:
            numbers = {where: of_seed.pop(where).int() for where in list(of_seed) if _finite(dataset, where[0])}
            rows.extend([as_table(seed, numbers, "row")] if numbers else [])
            yield from [apart(as_table(seed, of_seed, "x"), told(dataset))] if of_seed else []

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
