"""How the draws of a model spread over its target: `data/evaluate/modes/NAME.parquet`, rows as those of `stages.evaluate`.

Every draw has its precision and recall against the test set and, where the data set has a closed form, the modes that it
covers, the share of it that is at one, and how far it is from their weights. Their floors, one of each a seed, are those of
the target's second sample against the same test set: what a model that reaches the target has on average, be that the least
or the most there is.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from pydantic import Field

from rectiflow.modes import NEIGHBOURS, REACH, Modes, covered, mode_tv, precision, recall, valid
from stages.shared import modes, places
from stages.shared.io import read_table
from stages.shared.modes import ModesRow
from stages.shared.params import GRID, Settings, load, parse
from stages.shared.points import read_split
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures


class Near(Settings):
    """What is near: as far as the k-th of so many `neighbours`, and `reach` standard deviations of a mode."""

    neighbours: int = Field(NEIGHBOURS, ge=1)
    reach: float = Field(REACH, gt=0)


def read_modes(dataset: str) -> Modes | None:
    """The target's mixture; None for a data set without a closed form."""
    rows = read_table(places.oracle(dataset), side="target")
    return Modes(rows["mean"].astype(np.float64), rows["weight"], rows["std"]) if len(rows["weight"]) else None


def draw_rows(table: Mapping[str, np.ndarray]) -> Iterator[tuple[Draw, np.ndarray]]:
    """Every draw, and which rows are its, `(rows,)`."""
    for seed, place in dict.fromkeys(zip(table["seed"].tolist(), table["draw"].tolist(), strict=True)):
        rows = (table["seed"] == seed) & (table["draw"] == place)
        solver, nfe, role = (table[name][rows][0] for name in ("solver", "nfe", "role"))
        yield Draw(seed, str(solver), int(nfe), str(role)), rows


def draws(table: Mapping[str, np.ndarray]) -> Iterator[tuple[Draw, np.ndarray]]:
    """Every draw and its points `(n, dim)`."""
    for draw, rows in draw_rows(table):
        yield draw, table["x"][rows]


def spread(draw: Draw, suffix: str, x: np.ndarray, target: np.ndarray, of: Modes | None, near: Near) -> Iterator[Task]:
    """Comparisons of one seed's points with its target."""
    if of is not None:
        yield Task(draw, f"modes_covered{suffix}", lambda: covered(x, of, reach=near.reach))
        yield Task(draw, f"modes_valid{suffix}", lambda: valid(x, of, reach=near.reach))
        yield Task(draw, f"modes_tv{suffix}", lambda: mode_tv(x, of, reach=near.reach))
    yield Task(draw, f"precision{suffix}", lambda: precision(x, target, neighbours=near.neighbours))
    yield Task(draw, f"recall{suffix}", lambda: recall(x, target, neighbours=near.neighbours))


def tasks(name: str, dataset: str, near: Near) -> Iterator[Task]:
    """All numbers of a model of a data set: those of its draws, then the floors."""
    (test, floor), of = (read_split(dataset, "target", split) for split in ("test", "floor")), read_modes(dataset)
    targets = dict(zip(test.seeds, test.x, strict=True))
    for draw, x in draws(read_table(places.samples(name))):
        yield from spread(draw, "", x, targets[draw.seed], of, near)
    for seed, x in zip(floor.seeds, floor.x, strict=True):
        yield from spread(Draw(seed), "_floor", x, targets[seed], of, near)


def main(args: list[str]) -> None:
    """`python -m stages.modes NAME`, NAME a row of `modes`."""
    (name,) = args
    workers, row = load_workers(), load(ModesRow, f"modes.{name}", GRID)
    near = parse(Near, row.override, f"modes.{name}.override", GRID)
    ended = (places.sampled(name) / places.ENDED).exists()
    write_measures(modes.measured(name), () if ended else tasks(name, row.dataset, near), workers)


if __name__ == "__main__":
    run(main)
