"""What every model of a data set is measured against: `data/floor/NAME.parquet`, rows as those of `stages.evaluate`.

For each seed it has the distances between two independent samples of the target, which is what the draws of a model that
reaches it have on average, and no bound for other models; and `w2_squared`, the W2 squared between a sample of the source
and one of the target: between the laws it is the least path energy of a flow from one to the other, between samples more on
average. Tokens have no distance, and no floor here: see `stages.tokens`.
"""

from collections.abc import Iterator

from stages.shared import places
from stages.shared.distances import distances, least_energy
from stages.shared.points import read_split
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures


def tasks(name: str) -> Iterator[Task]:
    """All numbers of a data set, seed by seed."""
    sides = (("source", "test"), ("target", "test"), ("target", "floor"))
    sources, targets, floors = (read_split(name, *side) for side in sides)
    for seed, source, target, floor in zip(targets.seeds, sources.x, targets.x, floors.x, strict=True):
        yield from distances(Draw(seed), "_floor", floor, target)
        yield from least_energy(Draw(seed), source, target)


def main(args: list[str]) -> None:
    """`python -m stages.floor NAME`, NAME a row of `datasets` or `tables`."""
    (name,) = args
    write_measures(places.floor(name), tasks(name), load_workers())


if __name__ == "__main__":
    run(main)
