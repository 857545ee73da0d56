"""How near the draws of a conditional model are to the law given the condition: the folder `data/evaluate/given/NAME`.

`cells.parquet` has the W2 in every cell, rows `(seed, solver, nfe, role, cell, w2, condition)`, those without a solver the
floor, and `measures.parquet` its mean over the cells, rows as those of `stages.evaluate`. Where the law is that of a system,
a cell is one condition of a grid, and its points are drawn there; the floor is the W2 of a second sample. Of any other data
set a cell has test rows that are alike: of one class, or one of so many parts, nearly of a size, that the conditions are
halved into. Draws have the conditions of a second sample, whose own W2 to the test rows of the cell is the floor: with the
conditions of the test rows they would be nearer to these than another sample is.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow import metrics
from rectiflow.pairs import Points
from rectiflow.parts import halved
from rectiflow.samplers import counted
from rectiflow.transitions import Transitions
from stages.shared import given, places
from stages.shared.compute import prepare, stream
from stages.shared.files import rounded
from stages.shared.given import Cells
from stages.shared.io import write_table
from stages.shared.models import read_model
from stages.shared.pairs import read_labelled
from stages.shared.params import GRID, load, parse
from stages.shared.progress import progress
from stages.shared.rows import MeasuredRow, load_workers
from stages.shared.start import run
from stages.shared.systems import given_of, law_of, samplers_of
from stages.shared.tasks import Draw, Task, side_by_side, write_measures


class Compared(NamedTuple):
    """What draws of one seed are compared with: source points x0 `(n, dim)` and what is given with each, `(1, n, ...)`;
    points x of the law and a second sample of it, which has the conditions that are given; the cells that x is in, and those
    of the second sample and the draws, and of each cell the mean of the conditions in standard units, or the place of the
    class, `(cells, numbers)`.
    """

    x0: Tensor
    told: Tensor
    x: np.ndarray
    second: np.ndarray
    cell: np.ndarray
    second_cell: np.ndarray
    conditions: np.ndarray


def of_law(law: Transitions, settings: Cells, generator: Generator) -> Compared:
    """Points at conditions on a grid."""
    states, actions = law.grid(settings.states, settings.actions)
    cell = torch.arange(len(states)).repeat_interleave(settings.draws)
    s, a = states[cell], actions[cell]
    x0 = torch.randn(s.shape, generator=generator)
    x, second = (law.at(s, a, generator).numpy() for _ in range(2))
    where, conditions = cell.numpy(), law.condition(states, actions)
    return Compared(x0, given_of(conditions[cell]), x, second, where, where, conditions.numpy())


def of_rows(x0: Tensor, test: Points, second: Points, parts: int) -> Compared:
    """The test set's rows of one seed, and a second sample, whose conditions draws are given."""
    told = second.given()
    assert told is not None
    numbers = [known(points) for points in (test, second)]
    if test.classes:
        cells, conditions = [of[:, 0].astype(int) for of in numbers], np.arange(test.classes, dtype=np.float32)[:, None]
    else:
        tree = halved(numbers[0], parts)
        cells = [tree.of(of) for of in numbers]
        conditions = np.stack([numbers[0][cells[0] == k].mean(0) for k in range(parts)])
    return Compared(x0, told[None], test.x[:].numpy(), second.x[:].numpy(), cells[0], cells[1], conditions)


def known(points: Points) -> np.ndarray:
    """What cells are made by, `(n, numbers)`: the class, or the numbers of the condition."""
    found = points.label[:, None] if points.label is not None and points.classes else points.condition
    assert found is not None
    return found.numpy()


def compared(row: MeasuredRow, settings: Cells, seeds: Sequence[int]) -> Iterator[Compared]:
    """What there is to compare with, seed by seed."""
    if (law := law_of(row.known)) is not None:
        yield from (of_law(law, settings, stream(f"given/{row.dataset}", seed)) for seed in seeds)
        return
    sides = (("source", "test"), ("target", "test"), ("target", "floor"))
    source, test, second = (read_labelled(row.dataset, *side)[1] for side in sides)
    for k in range(len(seeds)):
        yield of_rows(source.seed(k).x[:], test.seed(k), second.seed(k), settings.parts)


class Cell(NamedTuple):
    """A number of a cell, and how to work it out."""

    draw: Draw
    metric: str
    cell: int
    value: Callable[[], float]


def in_cells(draw: Draw, metric: str, of: Compared, points: np.ndarray, cell: np.ndarray) -> Iterator[Cell]:
    """The W2 of points to the law in every cell that has some of both, of as many as both have."""
    for k in range(len(of.conditions)):
        mine, real = points[cell == k], of.x[of.cell == k]
        if n := min(len(mine), len(real)):
            yield Cell(draw, metric, k, partial(metrics.w2, mine[:n], real[:n]))


def write(name: str, found: list[Cell], conditions: Sequence[np.ndarray], seeds: Sequence[int], workers: int) -> None:
    """The numbers of all cells, and their means; `conditions` are those of the cells of every seed."""
    values = side_by_side([each.value for each in found], workers)
    of = dict(zip(seeds, conditions, strict=True))
    columns: dict[str, Any] = {
        "seed": np.array([each.draw.seed for each in found], np.int32),
        "solver": [each.draw.solver for each in found],
        "nfe": np.array([each.draw.nfe for each in found], np.int32),
        "role": [each.draw.role for each in found],
        "cell": np.array([each.cell for each in found], np.int32),
        "w2": np.array([rounded(value) for value in values]),
        "condition": np.stack([of[each.draw.seed][each.cell] for each in found]),
    }
    write_table(given.cells(name), columns)
    grouped: dict[tuple[Draw, str], list[float]] = {}
    for each, value in zip(found, values, strict=True):
        grouped.setdefault((each.draw, each.metric), []).append(value)
    tasks = [Task(draw, metric, partial(float, np.mean(of_draw))) for (draw, metric), of_draw in grouped.items()]
    write_measures(given.measured(name), tasks, workers)


@torch.no_grad()
def main(args: list[str]) -> None:
    """`python -m stages.given NAME`, NAME a row of `given`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(MeasuredRow, f"given.{name}", GRID)
    settings = parse(Cells, row.override, f"given.{name}.override", GRID)
    model, seeds = read_model(places.model(places.trained(name)))
    model, samplers = model.to(device), samplers_of(name, type(model))
    say, found, conditions = progress(f"given {name}", len(seeds)), list[Cell](), list[np.ndarray]()
    for k, (seed, of) in enumerate(zip(seeds, compared(row, settings, seeds), strict=True)):
        x0, told = of.x0.to(device), of.told.to(device)
        for sampler, role in samplers:
            generator = stream(f"given/{name}/{sampler.label}/{sampler.steps}", seed)
            x, nfe = counted(model.seed(k), sampler, x0[None], [generator], told)
            found += in_cells(Draw(seed, sampler.label, nfe, role), "given_w2", of, x[0].cpu().numpy(), of.second_cell)
        found += in_cells(Draw(seed), "given_w2_floor", of, of.second, of.second_cell)
        conditions.append(of.conditions)
        say(k + 1, f"seed {seed}")
    write(name, found, conditions, seeds, workers)


if __name__ == "__main__":
    run(main)
