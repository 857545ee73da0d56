"""How far the latents of a model are from having collapsed: `data/evaluate/collapse/NAME.parquet`, rows as those of
`stages.evaluate`.

The latents are those of the test set's points, without the noise where a model draws them with some: their mean deviation,
and their effective rank, whose most is the number of latents, and which says little above the number of coordinates that
the points have.
"""

from functools import partial

import torch

from rectiflow.models.encoder import spread
from stages.shared import collapse, places
from stages.shared.collapse import CollapseRow
from stages.shared.compute import prepare
from stages.shared.models import read_model
from stages.shared.pairs import read_points
from stages.shared.params import GRID, load
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures


def main(args: list[str]) -> None:
    """`python -m stages.collapse NAME`, NAME a row of `collapses`."""
    (name,) = args
    device, row = prepare(), load(CollapseRow, f"collapses.{name}", GRID)
    model, seeds = read_model(places.model(places.trained(name)))
    _, x = read_points(row.dataset, "target", "test")
    tasks: list[Task] = []
    for k, seed in enumerate(seeds):
        of, points = model.to(device).seed(k), x[k][None].to(device)
        with torch.no_grad():
            z = of.latents(points, points.new_zeros(1, points.shape[1], of.noise))[0].cpu()
        values = dict(zip(("latent_deviation", "latent_rank"), map(float, spread(z)), strict=True))
        values["latent_rank_ceiling"] = float(z.shape[1])
        tasks += [Task(Draw(seed), metric, partial(float, value)) for metric, value in values.items()]
    write_measures(collapse.measured(name), tasks, 1)


if __name__ == "__main__":
    run(main)
