"""What every flow of a data set is measured against: `data/floor/NAME.parquet`, rows `(seed, solver, nfe, metric, value)`.

For each seed the distances between two independent samples of the target, which is what the draws of a flow that reaches it
have on average, and no bound for other flows; and `w2_squared`, the W2 squared between a sample of the source and one of the
target: between the laws it is the least path energy of a flow from one to the other, between samples more on average.
"""

from collections.abc import Iterator
from functools import partial

from rectiflow import metrics
from stages.shared.io import DATA, by_seed, read_table
from stages.shared.measures import Measure, Task, distances, write_measures
from stages.shared.rows import load_workers
from stages.shared.start import run


def tasks(name: str) -> Iterator[Task]:
    """All numbers of a data set, seed by seed."""
    path = DATA / "generate" / name / "points.parquet"
    sides = {"source": ("source", "test"), "target": ("target", "test"), "floor": ("target", "floor")}
    tables = {side: by_seed(read_table(path, side=where, split=split)) for side, (where, split) in sides.items()}
    for k, seed in enumerate(tables["target"][0]):
        source, target, floor = (tables[side][1]["x"][k] for side in sides)
        yield from distances((seed, "", 0), "_floor", floor, target)
        n = min(len(source), len(target))
        yield Measure(seed, "", 0, "w2_squared"), partial(metrics.w2_squared, source[:n], target[:n])


def main(args: list[str]) -> None:
    """`python -m stages.floor NAME`, NAME a row of `datasets` or `tables`."""
    (name,) = args
    write_measures(DATA / "floor" / f"{name}.parquet", tasks(name), load_workers())


if __name__ == "__main__":
    run(main)
