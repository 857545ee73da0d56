"""The project's side: the calls that its stages make.

Every function prepares a piece of work and returns the call that does it; the call returns how much it did.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from bench.clouds import clouds, read_arrays, read_problems
from rectiflow.couplings import COUPLINGS
from rectiflow.datasets import DATASETS
from rectiflow.interpolants import Linear
from rectiflow.metrics import w2_squared
from rectiflow.pairs import Pairs
from rectiflow.solvers import SOLVERS
from rectiflow.training import Training, fit
from rectiflow.velocities import MLP, Frame, Velocity, unpack
from stages.couple import couple
from stages.io import DATA, by_seed, read_table
from stages.reflow import transport
from stages.sample import solve
from stages.settings import read

os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")  # as stages.compute sets it for every stage

Call = Callable[[], float]
WORKERS = 2  # plans side by side, as in params.yaml
NETWORK = MLP(dim=2, width=64, depth=3, activation="selu")  # torchcfm's
COUPLING = {"icfm": "independent", "otcfm": "exact"}
POINTS, PASSES = 10_000, 2  # of the default grid's data sets: 20 000 pairs a seed


def _points(seeds: int) -> tuple[Tensor, Tensor]:
    """Source `(seeds, PASSES * POINTS, 2)` and target `(seeds, POINTS, 2)` of `moons`."""
    dataset, generators = DATASETS["moons"](), _generators(seeds)
    x0 = torch.stack([dataset.source.sample(PASSES * POINTS, generator) for generator in generators])
    x1 = torch.stack([dataset.target.sample(POINTS, generator) for generator in generators])
    return x0, x1


def _generators(seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in range(seeds)]


def training(method: str, seeds: int, steps: int, batch: int, data: str = "library", rounds: int = 1) -> Call:
    """Draw the points (where they are not stored), couple them, train round 0, and for each further round draw pairs from
    the flow and train on; the amount is the number of steps of all models.
    """
    options = Training(steps=steps, batch=batch)
    euler = SOLVERS["euler"](steps=50)
    stored = _points(seeds) if data == "stored" else None

    def call() -> float:
        x0, x1 = stored or _points(seeds)
        pairs = couple(COUPLINGS[COUPLING[method]], 250, PASSES, (x0, x1), _generators(seeds), WORKERS)
        velocity = None
        for _ in range(rounds):
            if velocity:
                source = x0[:, :POINTS]
                pairs = Pairs(source, transport(velocity, euler, source))
            held_out = Pairs(pairs.x0[:, :1000], pairs.x1[:, :1000])
            velocity, _ = fit(NETWORK, Linear(), pairs, held_out, range(seeds), options, velocity)
        return rounds * steps * seeds

    return call


def fitting(seeds: int, steps: int, batch: int) -> Call:
    """Training alone, on stored pairs."""
    x0, x1 = _points(seeds)
    pairs, held_out = Pairs(x0[:, :POINTS], x1), Pairs(x0[:, :100], x1[:, :100])
    options = Training(steps=steps, batch=batch, log_every=steps)

    def call() -> float:
        fit(NETWORK, Linear(), pairs, held_out, range(seeds), options)
        return steps * seeds

    return call


def plans(n: int, dim: int, times: int) -> Call:
    """Exact pairs, problems side by side as the stage solves them; the amount is the number of pairs."""
    sides = [torch.from_numpy(np.stack([cloud] * times)).float() for cloud in clouds(n, dim)]

    def call() -> float:
        couple(COUPLINGS["exact"], n, 1, tuple(sides), _generators(times), WORKERS)
        return times * n

    return call


def distances(problems: str) -> Call:
    """Exact W2, problems side by side as the stage measures them; the amount is the number of problems."""
    pairs = read_problems(problems)

    def call() -> float:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda pair: w2_squared(*pair), pairs))
        return len(pairs)

    return call


def sampling(models: int, points: int, weights: str, solver: dict[str, Any]) -> Call:
    """End points of every seed's flow; the amount is the number of points."""
    one = torch.from_numpy(np.concatenate([array.ravel() for array in read_arrays(weights).values()]))
    identity = Frame(torch.zeros(models, 1, 2), *(torch.ones(models, 1, 1) for _ in range(2)))
    velocity = Velocity(NETWORK, one.repeat(models, 1), identity)
    x0 = torch.from_numpy(clouds(points, 2)[0]).float().repeat(models, 1, 1)
    options = {name: value for name, value in solver.items() if name != "name"}

    def call() -> float:
        solve(velocity, SOLVERS[solver["name"]](**options), x0)
        return models * points

    return call


# ---- Files that both sides read.


def write_weights(path: str) -> Call:
    """A trained field's weights, its frame's units folded in, as an .npz file."""

    def call() -> float:
        x0, x1 = _points(1)
        pairs = couple(COUPLINGS["exact"], 250, PASSES, (x0, x1), _generators(1), WORKERS)
        options = Training(steps=2000)
        velocity, _ = fit(NETWORK, Linear(), pairs, Pairs(pairs.x0[:, :100], pairs.x1[:, :100]), [0], options)
        frame, weights = velocity.frame, unpack(velocity.theta.clone(), NETWORK.shapes)
        first, last = "0", str(NETWORK.depth)
        weights[f"{first}.weight"][:, :2] /= frame.scale
        weights[f"{first}.bias"] -= frame.shift @ weights[f"{first}.weight"][:, :2]
        for part in ("weight", "bias"):
            weights[f"{last}.{part}"] *= frame.speed
        np.savez(path, **{name: weight[0].numpy() for name, weight in weights.items()})
        return 0

    return call


def write_grid(path: str) -> Call:
    """The W2 problems of the working tree's grid, one seed's: every flow's draws and the target."""

    def call() -> float:
        arrays = []
        for name, flow in read()["flows"].items():
            target = read_table(DATA / "generate" / flow["dataset"] / "points.parquet", side="target", split="test")
            seeds, columns = by_seed(target)
            samples = read_table(DATA / "sample" / name / "samples.parquet", seed=seeds[0])
            for place in np.unique(samples["draw"]):
                arrays += [samples["x"][samples["draw"] == place], columns["x"][0]]
        np.savez(path, *arrays)
        return 0

    return call


def write_clouds(path: str, n: int, dim: int) -> Call:
    """One W2 problem of two clouds."""

    def call() -> float:
        np.savez(path, *clouds(n, dim))
        return 0

    return call


# ---- Against no neighbour.


def products(n: int, times: int) -> Call:
    """Products of square matrices in float32; the amount is the number of floating-point operations."""
    a, b, out = (torch.randn(n, n) for _ in range(3))

    def call() -> float:
        for _ in range(times):
            torch.mm(a, b, out=out)
        return times * 2 * n**3

    return call
