"""How the points of a data set are split: how many there are of each kind, and which rows of a table they are."""

from collections.abc import Iterator, Mapping

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.functional import pad

from rectiflow.dataset import Dataset, Distribution, Empirical
from stages.shared.params import PARAMS, Refused, Settings

Splits = dict[tuple[str, str], Tensor]


class Sizes(Settings):
    """Rows for each seed. `train` may be left out for real data: then it is what the other splits leave. With `stratified`
    every split of real data has of each class its share.
    """

    train: int | None = Field(None, ge=2)
    validation: int = Field(ge=1)
    test: int = Field(ge=2)
    pool: int = Field(ge=2)
    stratified: bool = False


def check_splits(dataset: Dataset, sizes: Sizes, key: str) -> None:
    """Raise Refused unless the rows of a finite target suffice, and have classes where their shares are asked for."""
    if isinstance(dataset.target, Empirical):
        left_over(len(dataset.target.rows), sizes.validation, sizes.test, key)
    if sizes.stratified and dataset.labels is None:
        raise Refused(f"{PARAMS}: {key}.stratified: true, but the rows have no classes")


def left_over(rows: int, validation: int, test: int, key: str, least: int | None = None) -> int:
    """How many rows validation and test leave. Raises Refused where these are fewer than the test's, or than `least`."""
    left = rows - validation - test
    if left < max(2, test if least is None else least):
        raise Refused(
            f"{PARAMS}: {key}: validation {validation} and test {test} leave {left} of "
            f"{rows} rows; at least as many as test must stay"
        )
    return left


def draw(dataset: Dataset, sizes: Sizes, generator: Generator, key: str) -> Splits:
    """All splits of both sides for one seed: points `(n, dim)` of a side that is drawn, row numbers `(n,)` of a table. Where
    the target is drawn with conditions, these are further columns, and zeros of the source.
    """
    validation, test, pool = sizes.validation, sizes.test, sizes.pool
    wanted = {"train": sizes.train, "validation": validation, "test": test, "floor": test}
    needed = {"couple": pool, "reflow": pool, "validation": validation, "test": test}
    labels = dataset.labels if sizes.stratified else None
    of_target, of_source = (None, None) if labels is None else (labels.target, labels.source)
    target = _split(dataset.target, wanted, "train", generator, key, of_target)
    splits = {("target", name): part for name, part in target}
    source = _split(dataset.source, needed, "couple", generator, key, of_source)
    more = told(dataset)
    return splits | {("source", name): pad(part, (0, more)) if more else part for name, part in source}


def told(dataset: Dataset) -> int:
    """How many numbers of a condition a target that is drawn has beside its points."""
    drawn = dataset.condition is not None and not isinstance(dataset.target, Empirical)
    return len(dataset.condition.names) if drawn and dataset.condition else 0


def _split(
    side: Distribution | Empirical,
    counts: Mapping[str, int | None],
    rest: str,
    generator: Generator,
    key: str,
    classes: Tensor | None,
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
    left_over(len(rows), validation, test, key, floor)
    if classes is not None:
        rows = stratified(rows, classes, generator)
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


def stratified(rows: Tensor, classes: Tensor, generator: Generator) -> Tensor:
    """Shuffled row numbers in an order every stretch of which has of each class its share: the k-th row of n of a class is
    at `(k + u) / n` of the whole, with one u, uniform on [0, 1), for each class.
    """
    place, counts = classes[rows].long(), torch.bincount(classes.long())
    order = torch.argsort(place, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[place[order]]
    offsets = torch.rand(len(counts), generator=generator, dtype=torch.float64)
    return rows[torch.argsort((rank + offsets[place]) / counts[place], stable=True)]
