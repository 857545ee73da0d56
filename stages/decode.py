"""Bring what a flow drew of latents back to the data, and measure it there.

Writes `data/sample/NAME/samples.parquet`, draws as those of `stages.sample`, whose evaluations count the decoder as one,
`reconstructions.parquet` beside it, rows `(split, seed, x)`; and `data/evaluate/NAME.parquet`, rows as those of
`stages.evaluate`. Beside these stands how far reconstructions, which have the decoder's noise where draws have it, are:
`w2_decoder`, those of the target's second sample from the test set, what a flow that reaches the latents has on average,
whose floor is that of the sample itself; and `w2_reconstructed`, the draws from those of the test set, whose floor is that
of reconstructions of the second sample. They are one bottleneck's, whichever flow is drawn from.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow import metrics
from rectiflow.models.encoder import Encoder
from stages import evaluate
from stages.encode import encode
from stages.modes import draws
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import copy
from stages.shared.io import read_table, split_parts, write_parts, write_table
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
def points(model: Any, z: Tensor, noise: Generator | None) -> Tensor:
    """The decoder's means for one seed's latents `(n, latent)`, with its noise around them if there is any."""
    means = model.means(z.to(model.theta.device)[None])
    return (means if noise is None else model.blur(means, noise))[0].cpu()


def decode(name: str, model: Any, seeds: list[int], table: Table, noise: bool) -> Table:
    """The draws of every seed as points of the data; what a sampler draws does not depend on the others."""
    x, say = np.empty((len(table["seed"]), model.frame.shift.shape[-1]), np.float32), progress(f"decode {name}", len(seeds))
    for k, seed in enumerate(seeds):
        for place in np.unique(table["draw"]):
            rows = (table["seed"] == seed) & (table["draw"] == place)
            purpose = f"decode/{name}/{table['solver'][rows][0]}/{table['nfe'][rows][0]}"
            z = torch.from_numpy(table["x"][rows])
            x[rows] = points(model.seed(k), z, stream(purpose, seed) if noise else None)
        say(k + 1, f"seed {seed}")
    return {**table, "nfe": (table["nfe"] + 1).astype(np.int32), "x": x}


def reconstructions(model: Encoder, row: Decoded, split: str) -> np.ndarray:
    """What the decoder makes of the latents of a split of the target, `(seeds, n, dim)`."""
    seeds, x = read_points(row.dataset, "target", split)
    found = []
    for k, seed in enumerate(seeds):
        generator, one = stream(f"decode/{row.bottleneck}/{split}", seed), model.seed(k)
        z = encode(one, x[k].to(model.theta.device), generator)
        found.append(points(one, z, generator if row.noise else None))
    return torch.stack(found).numpy()


def tasks(row: Decoded, table: Table, seeds: list[int], made: Mapping[str, np.ndarray]) -> Iterator[Task]:
    """How far the draws and the bottleneck itself are from what they are to reach; `made` are reconstructions by split."""
    targets, ends = dict(zip(seeds, made["test"], strict=True)), read_points(row.dataset, "target", "test")[1].numpy()
    for draw, x in draws(table):
        yield Task(draw, "w2_reconstructed", partial(metrics.w2, x, targets[draw.seed]))
    for seed, second, first, real in zip(seeds, made["floor"], made["test"], ends, strict=True):
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
    made = {split: reconstructions(model, row, split) for split in ("test", "floor")}
    write_parts(places.reconstructions(name), split_parts(seeds, {split: {"x": x} for split, x in made.items()}))
    measured = [*evaluate.tasks(name, row.dataset), *tasks(row, table, seeds, made)]
    return write_measures(places.evaluated(name), measured, workers)


if __name__ == "__main__":
    run(main)
