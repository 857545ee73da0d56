"""Bring what a flow drew of latents back to the data, and measure it there.

Writes `data/sample/NAME/samples.parquet`, draws as those of `stages.sample`, whose evaluations count the decoder as one; and
`data/evaluate/NAME.parquet`, rows as those of `stages.evaluate`. Beside these stand what the bottleneck itself loses,
`w2_decoder`, the distance of reconstructions of the target's second sample to the test set, whose floor is that of the
sample itself; and what the flow loses, `w2_reconstructed`, the distance of its draws to reconstructions of the test set,
whose floor is that of reconstructions of the second sample.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rectiflow import metrics
from rectiflow.models.bottleneck import Bottleneck
from stages import evaluate
from stages.modes import draws
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import copy
from stages.shared.io import read_table, write_table
from stages.shared.latents import Decoded
from stages.shared.models import read_model
from stages.shared.pairs import read_points
from stages.shared.params import GRID, load
from stages.shared.progress import progress
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures

Table = dict[str, np.ndarray]


@torch.no_grad()
def decode(name: str, model: Bottleneck, seeds: list[int], table: Table, noise: bool) -> Table:
    """The draws of every seed as points of the data."""
    x, nfe = np.empty((len(table["seed"]), model.frame.shift.shape[-1]), np.float32), table["nfe"] + 1
    say = progress(f"decode {name}", len(seeds))
    for k, seed in enumerate(seeds):
        rows, one = table["seed"] == seed, model.seed(k)
        z = torch.from_numpy(table["x"][rows])[None].to(one.theta.device)
        means = one.means(z)
        x[rows] = (one.blur(means, stream(f"decode/{name}", seed)) if noise else means)[0].cpu()
        say(k + 1, f"seed {seed}")
    return {**table, "nfe": nfe.astype(np.int32), "x": x}


@torch.no_grad()
def reconstructions(name: str, model: Bottleneck, dataset: str, split: str) -> tuple[list[int], np.ndarray]:
    """The seeds, and what the decoder makes of the latents of a split of the target, `(seeds, n, dim)`."""
    seeds, x = read_points(dataset, "target", split)
    found: list[Tensor] = []
    for k, seed in enumerate(seeds):
        noise = torch.randn(1, x.shape[1], model.noise, generator=stream(f"decode/{name}/{split}", seed)).to(model.theta)
        one = model.seed(k)
        found.append(one.means(one.latents(x[k : k + 1].to(model.theta.device), noise)).cpu())
    return seeds, torch.cat(found).numpy()


def tasks(name: str, model: Bottleneck, dataset: str, table: Mapping[str, np.ndarray]) -> Iterator[Task]:
    """What is lost by the flow, and what by the bottleneck."""
    (seeds, test), (_, floor) = (reconstructions(name, model, dataset, split) for split in ("test", "floor"))
    targets, ends = dict(zip(seeds, test, strict=True)), read_points(dataset, "target", "test")[1].numpy()
    for draw, x in draws(table):
        yield Task(draw, "w2_reconstructed", partial(metrics.w2, x, targets[draw.seed]))
    for seed, second, first, real in zip(seeds, floor, test, ends, strict=True):
        yield Task(Draw(seed), "w2_reconstructed_floor", partial(metrics.w2, second, first))
        yield Task(Draw(seed), "w2_decoder", partial(metrics.w2, second, real))


def main(args: list[str]) -> None:
    """`python -m stages.decode NAME`, NAME a row of `decoded`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(Decoded, f"decoded.{name}", GRID)
    if (note := places.sampled(row.flow) / places.ENDED).exists():
        copy(note, places.sampled(name) / places.ENDED)
        return write_measures(places.evaluated(name), (), workers)
    model, seeds = read_model(places.model(places.trained(row.bottleneck)))
    model = model.to(device)
    table = decode(name, model, seeds, read_table(places.samples(row.flow)), row.noise)
    write_table(places.samples(name), table)
    measured = [*evaluate.tasks(name, row.dataset), *tasks(name, model, row.dataset, table)]
    return write_measures(places.evaluated(name), measured, workers)


if __name__ == "__main__":
    run(main)
