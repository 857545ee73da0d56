"""How far the draws of a model are from their target by what a judge sees: `data/evaluate/features/NAME.parquet`, rows as
those of `stages.evaluate`; and what it sees, `data/features/NAME/features.parquet`, rows `(seed, draw, judged, x)`.

Every draw has the Frechet and the kernel distance to the test set, precision and recall among features, and how far the
shares of the classes, as the judge tells them, are from those of the test set. Where a model was asked for classes,
`judged_accuracy` is the share of draws that are judged to be of theirs. `neighbour` is the median distance of a draw to its
nearest row of the training set, in the units of x. Their floors, one of each a seed, are those of the target's second sample
against the same test set; that of `neighbour` is the test set's own: draws nearer than it repeat what was trained on.

What is decoded is measured as draws are, and beside it how far reconstructions are (see `stages.decode`):
`frechet_reconstructed` and its floor as there, and `frechet_decoder`, that of the reconstructed test set from the target's
second sample. Of a table this one may have rows that were trained on, whose reconstructions would look better.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from pydantic import Field

from rectiflow.features import frechet, kernel_distance, nearest
from rectiflow.histograms import total_variation
from rectiflow.models.classifier import Classifier
from rectiflow.modes import NEIGHBOURS, precision, recall
from stages.judge import Seen, look, looked
from stages.modes import draw_rows
from stages.shared import judges, places
from stages.shared.compute import prepare
from stages.shared.files import copy
from stages.shared.io import by_seed, read_table, split_parts, write_parts, write_table
from stages.shared.judges import FeaturesRow
from stages.shared.models import read_model
from stages.shared.params import GRID, Settings, load, parse
from stages.shared.places import ENDED
from stages.shared.points import read_split
from stages.shared.progress import progress
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures

Table = Mapping[str, np.ndarray]


class Among(Settings):
    """What is near among features: as far as the k-th of so many `neighbours`."""

    neighbours: int = Field(NEIGHBOURS, ge=1)


def see(name: str, model: Classifier, seeds: list[int], table: Table) -> Seen:
    """What every seed's judge sees of the draws of that seed, in the order of the table."""
    say, parts = progress(f"features {name}", len(seeds)), []
    for k, seed in enumerate(seeds):
        parts.append(look(model.seed(k), table["x"][table["seed"] == seed]))
        say(k + 1, f"seed {seed}")
    found = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    return {"seed": table["seed"], "draw": table["draw"], **found}


def split_of(judge: str, split: str) -> dict[int, Seen]:
    """What a judge sees of a split, seed by seed."""
    seeds, columns = by_seed(read_table(judges.seen(judge), split=split))
    return {seed: {name: column[k] for name, column in columns.items()} for k, seed in enumerate(seeds)}


def shares(judged: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class."""
    return np.bincount(judged, minlength=classes) / len(judged)


def classes_tv(judged: np.ndarray, others: np.ndarray) -> float:
    """`1/2 sum |shares - shares'|`, the total variation between two samples' histograms over the classes."""
    classes = 1 + max(judged.max(), others.max())
    return total_variation(shares(judged, classes), shares(others, classes))


def compared(draw: Draw, suffix: str, seen: Seen, test: Seen, neighbours: int) -> Iterator[Task]:
    """Comparisons of one seed's features with those of its test set, in units of the deviations that these have."""
    x, y = scaled(test["x"], seen["x"], test["x"])
    yield Task(draw, f"frechet{suffix}", partial(frechet, x, y))
    yield Task(draw, f"kernel_distance{suffix}", partial(kernel_distance, x, y))
    yield Task(draw, f"feature_precision{suffix}", partial(precision, x, y, neighbours=neighbours))
    yield Task(draw, f"feature_recall{suffix}", partial(recall, x, y, neighbours=neighbours))
    yield Task(draw, f"judged_classes{suffix}", partial(classes_tv, seen["judged"], test["judged"]))


def scaled(real: np.ndarray, *of: np.ndarray) -> list[np.ndarray]:
    """Features in units of the deviations of those of real points: a judge's own units say nothing."""
    size = real.std(0, dtype=np.float64)
    return [x / np.where(size > 0, size, 1.0) for x in of]


def right(draw: Draw, suffix: str, judged: np.ndarray, label: np.ndarray) -> Task:
    """The share that is judged to be of its class."""
    return Task(draw, f"judged_accuracy{suffix}", partial(float, (judged == label).mean()))


def near(draw: Draw, suffix: str, x: np.ndarray, train: np.ndarray) -> Task:
    """The median distance to the training set."""
    return Task(draw, f"neighbour{suffix}", lambda: np.median(nearest(x, train)))


class Real(NamedTuple):
    """What a judge sees of the test set and of the target's second sample, seed by seed."""

    test: dict[int, Seen]
    floor: dict[int, Seen]

    @classmethod
    def of(cls, judge: str) -> "Real":
        """That of a judge."""
        return cls(*(split_of(judge, split) for split in ("test", "floor")))


def tasks(row: FeaturesRow, samples: Table, seen: Seen, of: Real, neighbours: int) -> Iterator[Task]:
    """All numbers of a model of a data set: those of its draws, then the floors."""
    test, floor = of
    train, real = (read_split(row.dataset, "target", split) for split in ("train", "test"))
    trained = dict(zip(train.seeds, train.x, strict=True))
    for draw, rows in draw_rows(samples):
        mine = {name: column[rows] for name, column in seen.items()}
        yield from compared(draw, "", mine, test[draw.seed], neighbours)
        yield near(draw, "", samples["x"][rows], trained[draw.seed])
        if "label" in samples:
            yield right(draw, "", mine["judged"], samples["label"][rows])
    for seed, x in zip(real.seeds, real.x, strict=True):
        yield from compared(Draw(seed), "_floor", floor[seed], test[seed], neighbours)
        yield near(Draw(seed), "_floor", x, trained[seed])
        if "label" in samples:
            yield right(Draw(seed), "_floor", floor[seed]["judged"], floor[seed]["label"])


def reconstruction_tasks(samples: Table, seen: Seen, real: Real, made: Mapping[str, Seen]) -> Iterator[Task]:
    """How far draws are from reconstructions, and these from the test set."""
    test, other = real
    first, second = (dict(zip(test, made[split]["x"], strict=True)) for split in ("test", "floor"))
    for draw, rows in draw_rows(samples):
        both = scaled(test[draw.seed]["x"], seen["x"][rows], first[draw.seed])
        yield Task(draw, "frechet_reconstructed", partial(frechet, *both))
    for seed, of in test.items():
        ours, others, fresh = scaled(of["x"], first[seed], second[seed], other[seed]["x"])
        yield Task(Draw(seed), "frechet_reconstructed_floor", partial(frechet, others, ours))
        yield Task(Draw(seed), "frechet_decoder", partial(frechet, ours, fresh))


def main(args: list[str]) -> None:
    """`python -m stages.features NAME`, NAME a row of `features`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(FeaturesRow, f"features.{name}", GRID)
    neighbours = parse(Among, row.override, f"features.{name}.override", GRID).neighbours
    if (note := places.sampled(name) / ENDED).exists():
        copy(note, judges.features(name) / ENDED)
        return write_measures(judges.measured(name), (), workers)
    model, seeds = read_model(places.model(judges.folder(row.judge)))
    model, samples = model.to(device), read_table(places.samples(name))
    seen = see(name, model, seeds, samples)
    write_table(judges.drawn(name), seen)
    real = Real.of(row.judge)
    found = [*tasks(row, samples, seen, real, neighbours)]
    if (path := places.reconstructions(name)).exists():
        splits = {split: by_seed(read_table(path, split=split))[1]["x"] for split in ("test", "floor")}
        made = {split: looked(model, x) for split, x in splits.items()}
        write_parts(judges.reconstructed(name), split_parts(seeds, made))
        found += reconstruction_tasks(samples, seen, real, made)
    return write_measures(judges.measured(name), found, workers)


if __name__ == "__main__":
    run(main)
