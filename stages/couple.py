"""Pair source and target points: `data/couple/DATASET-COUPLING/pairs.parquet`, the places of both ends of every pair.

Plans are solved once here and reused by every model that is trained on them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Generator, Tensor

from rectiflow.pairs import Points
from rectiflow.rows import Rows
from rectiflow.transport.couplings import COUPLINGS, Coupling, minibatch
from stages.shared.compute import stream
from stages.shared.pairs import SOURCE_SPLITS, read_labelled, write_indices
from stages.shared.params import GRID, PARAMS, Refused, Settings, composed, load, lookup, read, section
from stages.shared.progress import progress
from stages.shared.rows import Couple, load_workers
from stages.shared.start import keep_memory, run, trim


class Pairing(Settings):
    """At least `pairs` pairs for each seed, in as many passes over the target as that takes, each with fresh pairings;
    `batch` points to a plan: a larger one comes closer to the optimal plan. With `by_class` points are coupled class by
    class, each with random source points, which then do not depend on the class.
    """

    pairs: int = Field(ge=1)
    batch: int = Field(1024, ge=1)
    by_class: bool = False


def build_pairing(row: Any, key: str) -> tuple[Coupling, Pairing]:
    """A row of `couplings`: how to couple, and how much."""
    call, rest = lookup(COUPLINGS, row, key)
    pairing, options = composed(Pairing, call, rest, key)
    return partial(call, **options), pairing


def couple(
    coupling: Coupling,
    batch: int,
    pairings: int,
    sides: tuple[Tensor | Rows, Tensor | Rows],
    generators: Sequence[Generator],
    workers: int,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The pairs of all seeds, (i, j) `(seeds, pairs)`: x0[i] belongs to x1[j], among the points `(seeds, n, dim)` of both
    sides, where there are `labels` `(seeds, n)` class by class; seed beside seed on `workers` threads.
    """

    def one(k: int) -> tuple[Tensor, Tensor]:
        classes = None if labels is None else labels[k]
        return minibatch(coupling, sides[0][k], sides[1][k], generators[k], batch, pairings, classes)

    with ThreadPoolExecutor(workers) as pool:  # the assignment releases the interpreter's lock
        i, j = zip(*pool.map(one, range(len(generators))), strict=True)
    return torch.stack(i), torch.stack(j)


def classes(points: Points, key: str) -> Tensor:
    """The classes of points that are coupled by them."""
    if points.label is None:
        raise Refused(f"{PARAMS}: {key}.by_class: true: the data set has no classes")
    return points.label


def main(args: list[str]) -> None:
    """`python -m stages.couple NAME`, NAME a row of `couples`."""
    (name,) = args
    keep_memory()
    workers = load_workers()
    row = load(Couple, f"couples.{name}", GRID)
    dataset, key = row.dataset, f"couplings.{row.coupling}"
    coupling, pairing = build_pairing(section(read(), key), key)
    pairs = {}
    say = progress(f"couple {name}", len(SOURCE_SPLITS), len(SOURCE_SPLITS))
    for done, (split, origin) in enumerate(SOURCE_SPLITS.items(), 1):
        seeds, source = read_labelled(dataset, "source", origin)
        _, target = read_labelled(dataset, "target", split)
        trim()
        labels = classes(target, key) if pairing.by_class else None
        passes = -(-pairing.pairs // target.rows) if split == "train" else 1
        streams = [stream(f"couple/{name}/{split}", seed) for seed in seeds]
        pairs[split] = couple(coupling, pairing.batch, passes, (source.x, target.x), streams, workers, labels)
        say(done, f"{pairs[split][0].shape[1]} {split} pairs a seed, {passes} for each target point")
    write_indices(f"couple/{name}", seeds, pairs)


if __name__ == "__main__":
    run(main)
