"""Pair source and target points: `data/couple/DATASET-COUPLING/pairs.parquet`.

Plans are solved once here and reused by every model that is trained on them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Generator, Tensor

from rectiflow.pairs import Pairs
from rectiflow.transport.couplings import COUPLINGS, Coupling, minibatch
from stages.shared.compute import stream
from stages.shared.io import DATA
from stages.shared.params import Settings, composed, load, lookup, read, section
from stages.shared.points import read_points, write_pairs
from stages.shared.progress import progress
from stages.shared.rows import Couple, load_workers
from stages.shared.start import keep_memory, run


class Pairing(Settings):
    """At least `pairs` pairs for each seed, in as many passes over the target as that takes, each with fresh pairings;
    `batch` points to a plan: a larger one comes closer to the optimal plan.
    """

    pairs: int = Field(ge=1)
    batch: int = Field(1024, ge=1)


def build_pairing(row: Any, key: str) -> tuple[Coupling, Pairing]:
    """A row of `couplings`: how to couple, and how much."""
    call, rest = lookup(COUPLINGS, row, key)
    pairing, options = composed(Pairing, call, rest, key)
    return partial(call, **options), pairing


def couple(
    coupling: Coupling,
    batch: int,
    pairings: int,
    sides: tuple[Tensor, Tensor],
    generators: Sequence[Generator],
    workers: int,
) -> Pairs:
    """The pairs of all seeds from points `(seeds, n, dim)` of both sides, seed beside seed on `workers` threads."""

    def one(x0: Tensor, x1: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        i, j = minibatch(coupling, x0, x1, generator, batch, pairings)
        return x0[i], x1[j]

    with ThreadPoolExecutor(workers) as pool:  # the assignment releases the interpreter's lock
        ends = list(pool.map(one, *sides, generators))
    return Pairs(*(torch.stack(side) for side in zip(*ends, strict=True)))


def main(args: list[str]) -> None:
    """`python -m stages.couple NAME`, NAME a row of `couples`."""
    (name,) = args
    keep_memory()
    workers = load_workers()
    row = load(Couple, f"couples.{name}")
    dataset, key = row.dataset, f"couplings.{row.coupling}"
    coupling, pairing = build_pairing(section(read(), key), key)
    path = DATA / "generate" / dataset / "points.parquet"
    splits = {"train": "couple", "validation": "validation"}
    pairs = {}
    say = progress(f"couple {name}", len(splits), len(splits))
    for done, (split, origin) in enumerate(splits.items(), 1):
        seeds, x0 = read_points(path, "source", origin)
        _, x1 = read_points(path, "target", split)
        passes = -(-pairing.pairs // x1.shape[1]) if split == "train" else 1
        streams = [stream(f"couple/{name}/{split}", seed) for seed in seeds]
        pairs[split] = couple(coupling, pairing.batch, passes, (x0, x1), streams, workers)
        say(done, f"{pairs[split].x0.shape[1]} {split} pairs a seed, {passes} for each target point")
    write_pairs(DATA / "couple" / name / "pairs.parquet", seeds, pairs)


if __name__ == "__main__":
    run(main)
