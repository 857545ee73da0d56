"""Make a data set of a bottleneck's latents: `data/generate/LATENTS`, files as those of `stages.generate`.

Every split has the latents of the same rows as that of the data set, a draw of the posterior for each, with the classes that
they have there; the bottleneck of a seed encodes that seed's rows. Where these are next states, the condition has the latent
of the state before in its place. The source is N(0, I) with as many rows a split as
that of the data set.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow.models.encoder import Encoder
from rectiflow.pairs import Points
from rectiflow.registry import described
from stages.generate import as_table
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import write_json
from stages.shared.io import write_parts, write_table
from stages.shared.latents import Encoded
from stages.shared.models import read_model
from stages.shared.pairs import read_labelled
from stages.shared.params import GRID, load
from stages.shared.points import About, read_about
from stages.shared.progress import progress
from stages.shared.start import run

SPLITS = {"source": ("couple", "reflow", "validation", "test"), "target": ("train", "validation", "test", "floor")}


def encode(model: Encoder, x: Tensor, generator: Generator) -> Tensor:
    """Latents `(n, latent)` of one seed's points `(n, dim)`, whose model is given."""
    noise = torch.randn(len(x), model.noise, generator=generator)
    with torch.no_grad():
        return model.latents(x[None], noise.to(x)[None])[0].cpu()


def classes(of: Points, side: str, k: int) -> np.ndarray:
    """The classes of a seed's rows of the target; those of the source, which has none, are -1."""
    there = side == "target" and of.label is not None
    return of.label[k].int().numpy() if there else np.full(of.rows, -1, np.int32)  # type: ignore[index]


def told(model: Any, of: Points, side: str, k: int) -> np.ndarray:
    """The conditions of a seed's rows with latents in place of states; those of the source, which has none, are zeros."""
    if side == "source" or of.condition is None:
        return np.zeros((of.rows, model.latent + model.actions), np.float32)
    with torch.no_grad():
        found: np.ndarray = model.recoded(of.condition[k][None].to(model.theta.device))[0].cpu().numpy()
    return found


def condition(model: Any, about: About) -> dict[str, Any]:
    """The names and units of the same: latents are in their own."""
    assert about.condition is not None
    dim, units = math.prod(about.shape), described("scaled", about.condition.units)
    for name, one in (("shift", 0.0), ("scale", 1.0)):
        units[name] = [one] * model.latent + list(units[name][dim:])
    return {"names": [*(f"z{k}" for k in range(model.latent)), *about.condition.names[dim:]], "units": units, "whole": True}


def nothing_known(dim: int) -> dict[str, np.ndarray | list[str]]:
    """The closed form where there is none."""
    return {"side": [], "weight": np.zeros(0), "mean": np.zeros((0, dim)), "std": np.zeros(0)}


def main(args: list[str]) -> None:
    """`python -m stages.encode NAME`, NAME a row of `encoded`."""
    (name,) = args
    device, row = prepare(), load(Encoded, f"encoded.{name}", GRID)
    model, seeds = read_model(places.model(places.trained(row.bottleneck)))
    about = read_about(row.dataset)
    model, say = model.to(device), progress(f"encode {name}", len(seeds))
    points = {(side, split): read_labelled(row.dataset, side, split)[1] for side, of in SPLITS.items() for split in of}
    tables = []
    for k, seed in enumerate(seeds):
        of_seed: dict[tuple[str, str], Tensor] = {}
        labels = [classes(of, side, k) for (side, _), of in points.items()]
        for (side, split), of in points.items():
            generator = stream(f"encode/{name}/{side}/{split}", seed)
            drawn = torch.randn(of.rows, model.latent, generator=generator) if side == "source" else None
            of_seed[side, split] = encode(model.seed(k), of.x[k][:].to(device), generator) if drawn is None else drawn
        table = as_table(seed, of_seed, "x")
        tables.append(table | {"label": np.concatenate(labels)} if about.classes else table)
        if model.whole:
            tables[-1]["condition"] = np.concatenate([told(model.seed(k), of, side, k) for (side, _), of in points.items()])
        say(k + 1, f"seed {seed}")
    write_parts(places.points(name), tables)
    write_table(places.oracle(name), nothing_known(model.latent))
    known = {"condition": condition(model, about)} if model.whole else {}
    write_json(places.about(name), {**known, "shape": [model.latent], "classes": about.classes, "entropy": None})


if __name__ == "__main__":
    run(main)
