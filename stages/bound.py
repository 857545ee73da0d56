"""How near a bottleneck comes to the likelihood of its data: `data/evaluate/bound/NAME.parquet`, rows as those of
`stages.evaluate`.

The model says which bounds there are; each is a mean over the test set in nats, a scaled table's in its own units. Their
floor is the entropy of the target, where it is known.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch
from pydantic import Field

from stages.shared import bounds, places
from stages.shared.bounds import BoundRow
from stages.shared.compute import prepare, stream
from stages.shared.models import read_model
from stages.shared.params import GRID, Refused, Settings, load, parse
from stages.shared.points import read_about, read_split
from stages.shared.progress import progress
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures

UNITLESS = ("rate", "codes_used")  # the same in all units of x


class Measured(Settings):
    """How bounds are measured: by so many `samples` of the posterior."""

    samples: int = Field(64, ge=1)


def seed_tasks(seed: int, values: Mapping[str, np.ndarray], log_slope: float, entropy: float | None) -> Iterator[Task]:
    """All numbers of one seed, from those of its points. Raises Refused where one is not finite."""
    for metric, of in values.items():
        if not np.isfinite(of).all():
            raise Refused(f"bound of seed {seed}: {metric} is not finite; train it longer, or with a lower training.lr")
        yield Task(Draw(seed), metric, partial(float, of.mean() - (0 if metric in UNITLESS else log_slope)))
    if entropy is not None:
        yield Task(Draw(seed), "elbo_floor", partial(float, entropy))


@torch.no_grad()
def main(args: list[str]) -> None:
    """`python -m stages.bound NAME`, NAME a row of `bounds`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(BoundRow, f"bounds.{name}", GRID)
    samples = parse(Measured, row.override, f"bounds.{name}.override", GRID).samples
    about, test = read_about(row.dataset), read_split(row.dataset, "target", "test")
    model, seeds = read_model(places.model(places.trained(name)))
    model, say = model.to(device), progress(f"bound {name}", len(seeds))
    tasks: list[Task] = []
    for k, seed in enumerate(seeds):
        x = torch.tensor(test.x[k : k + 1], device=device)
        found = model.seed(k).bounds(x, [stream(f"bound/{name}", seed)], samples)
        values = {metric: of.double().cpu().numpy() for metric, of in found.items()}
        log_slope = float(about.units.log_slope(test.x[k]).mean()) if about.units else 0.0
        tasks += seed_tasks(seed, values, log_slope, about.entropy)
        say(k + 1, f"seed {seed}, -ELBO {values['elbo'].mean():.4f}")
    write_measures(bounds.measured(name), tasks, workers)


if __name__ == "__main__":
    run(main)
