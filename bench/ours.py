"""The project's side: the calls that its stages make.

Every function prepares a piece of work and returns the call that does it; the call returns what it did. Where a stage
does problems side by side, so does the call: on as many threads as torch has.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from bench import laws, pictures
from bench.clouds import clouds, read_arrays, read_problems
from bench.weights import weights
from bench.worker import Call, Done
from rectiflow.datasets import DATASETS
from rectiflow.gradient_flows.energies import KL
from rectiflow.gradient_flows.grid import Grid
from rectiflow.gradient_flows.scheme import Descent
from rectiflow.interpolants import Linear
from rectiflow.likelihood import Exact, Pushforward
from rectiflow.metrics import w2_squared
from rectiflow.mixtures import GaussianMixture, normal
from rectiflow.models.conditional import Conditional
from rectiflow.models.coupling_layers import CouplingLayers
from rectiflow.models.frame import Frame
from rectiflow.models.tokens import TokenFlow
from rectiflow.models.transforms import Spline
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import MLP
from rectiflow.networks.unet import UNet
from rectiflow.objectives.consistency import Consistency
from rectiflow.objectives.likelihood import Likelihood
from rectiflow.objectives.matching import Matching
from rectiflow.objectives.meanflow import MeanFlow
from rectiflow.objectives.objective import Objective
from rectiflow.pairs import Pairs, Points
from rectiflow.rollouts import roll
from rectiflow.samplers import SAMPLERS, counted, sample, transport
from rectiflow.solvers import SOLVERS
from rectiflow.tokens import HIDDEN
from rectiflow.training import Training, fit
from rectiflow.transport.couplings import COUPLINGS
from rectiflow.weights import initial, unpack
from stages.couple import couple
from stages.shared import places
from stages.shared.io import read_table
from stages.shared.pairs import paired
from stages.shared.params import GRID, read
from stages.shared.points import read_split
from stages.shared.start import keep_memory
from stages.shared.systems import given_of

keep_memory()
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")  # as stages.shared.compute sets it for every stage

NETWORK = partial(MLP, width=64, depth=3, activation="selu")  # torchcfm's
OBJECTIVE = Matching(NETWORK, Linear(sigma=0.1))  # torchcfm's
MAP = partial(MLP, width=128, depth=4)  # of experiments/one_step
COUPLING = {"icfm": "independent", "otcfm": "exact"}
# Of experiments/transport_table.
PLAIN: dict[str, Any] = {
    "lr": 1e-3,
    "weight_decay": 1e-5,
    "warmup": 0,
    "schedule": "constant",
    "ema": 0.0,
    "clip": 1e9,
    "log_every": 500,
}
POINTS, PASSES = 10_000, 2  # of the default grid's data sets: 20 000 pairs a seed


def _points(seeds: int) -> tuple[Tensor, Tensor]:
    """Source `(seeds, PASSES * POINTS, 2)` and target `(seeds, POINTS, 2)` of `moons`."""
    dataset: Any = DATASETS["moons"]()
    generators = _generators(seeds)
    x0 = torch.stack([dataset.source.sample(PASSES * POINTS, generator) for generator in generators])
    x1 = torch.stack([dataset.target.sample(POINTS, generator) for generator in generators])
    return x0, x1


def _generators(seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in range(seeds)]


def _coupled(coupling: str, batch: int, passes: int, sides: tuple[Tensor, Tensor]) -> Pairs:
    """Pairs of points `(seeds, n, dim)`, seed beside seed."""
    places = couple(COUPLINGS[coupling], batch, passes, sides, _generators(len(sides[0])), torch.get_num_threads())
    return paired(Points(sides[0]), Points(sides[1]), *places)


def training(
    method: str, seeds: int, steps: int, batch: int, data: str = "library", rounds: int = 1, plain: bool = False
) -> Call:
    """Draw the points (where they are not stored), couple them, train round 0, and for each further round draw pairs from
    the flow and train on; the amount is the number of steps of all models. `plain`: at one rate, nothing averaged or
    clipped.
    """
    options = Training(steps=steps, batch=batch, **(PLAIN if plain else {}))
    euler = SAMPLERS["euler"](steps=50)
    stored = _points(seeds) if data == "stored" else None

    def call() -> Done:
        x0, x1 = stored or _points(seeds)
        pairs = _coupled(COUPLING[method], 250, PASSES, (x0, x1))
        velocity = None
        for _ in range(rounds):
            if velocity:
                source = x0[:, :POINTS]
                pairs = Pairs(source, transport(velocity, euler, source, [None] * seeds))
            held_out = Pairs(pairs.x0[:, :1000], pairs.x1[:, :1000])
            velocity, _ = fit(OBJECTIVE, pairs, held_out, _generators(seeds), options, velocity)
        return Done(rounds * steps * seeds)

    return call


def fitting(seeds: int, steps: int, batch: int, device: str = "cpu") -> Call:
    """Training alone, on stored pairs."""
    x0, x1 = (part.to(device) for part in _points(seeds))
    pairs, held_out = Pairs(x0[:, :POINTS], x1), Pairs(x0[:, :100], x1[:, :100])
    options = Training(steps=steps, batch=batch, log_every=steps)

    def call() -> Done:
        fit(OBJECTIVE, pairs, held_out, _generators(seeds), options)
        return Done(steps * seeds)

    return call


def one_step(objective: str, seeds: int, steps: int, batch: int) -> Call:
    """Training a map of one step alone, on stored pairs; the amount is the number of steps of all models. The teacher of
    `consistency` is an untrained field.
    """
    x0, x1 = _points(seeds)
    pairs, held_out = Pairs(x0[:, :POINTS], x1), Pairs(x0[:, :100], x1[:, :100])
    options = Training(steps=steps, batch=batch, log_every=steps)
    trained: Objective = MeanFlow(MAP)
    if objective == "consistency":
        field = MAP(inputs=3, outputs=2)
        weights = {"theta": initial(field, _generators(seeds))}
        teacher = Velocity(field, weights, Frame.of(pairs.x0, pairs.x1))
        trained = Consistency(MAP, first=18, last=18, teacher=teacher)

    def call() -> Done:
        fit(trained, pairs, held_out, _generators(seeds), options)
        return Done(steps * seeds)

    return call


def picture_training(steps: int, batch: int) -> Call:
    """Training a U-Net on stored pairs, clipped, averaged and held out as every training; the amount is the number of
    steps.
    """
    x0, x1 = (pictures.noise(1000, seed)[None] for seed in range(2))
    pairs, held_out = (Pairs(x0[:, part], x1[:, part], shape=pictures.SHAPE) for part in (slice(0, 1000), slice(0, 100)))
    objective, options = Matching(UNet), Training(steps=steps, batch=batch, lr=1e-3, log_every=steps)

    def call() -> Done:
        fit(objective, pairs, held_out, _generators(1), options)
        return Done(steps)

    return call


def picture_sampling(points: int, steps: int) -> Call:
    """Ends of a U-Net's flow by Euler's method; the amount is the number of pictures. Found: their mean length."""
    velocity = Velocity(pictures.NETWORK, {"theta": weights(pictures.NETWORK)}, Frame.none(1, pictures.DIM))
    x0, euler = pictures.noise(points, 2)[None], SAMPLERS["euler"](steps=steps)

    def call() -> Done:
        solved = sample(velocity, euler, x0, [None])[0]
        return Done(points, float(solved.end.norm(dim=-1).double().mean()), solved.nfe)

    return call


def rollout(starts: int, steps: int, euler: int) -> Call:
    """Roll-outs of a conditional flow; the amount is the number of states. Found: their mean energy at the end."""
    law = laws.PENDULUM
    model = Conditional(laws.NEXT, {"theta": weights(laws.NEXT)}, Frame.none(1, law.dim), conditions=len(law.names) + 1)
    (s, actions), sampler = laws.starts(starts, steps), SAMPLERS["euler"](steps=euler)

    @torch.no_grad()
    def call() -> Done:
        generator, spent = Generator().manual_seed(2), list[int]()

        def step(s: Tensor, a: Tensor) -> Tensor:
            told, x0 = given_of(law.condition(s, a)), torch.randn(s.shape, generator=generator)
            x, nfe = counted(model, sampler, x0[None], [generator], told)
            spent.append(nfe)
            return law.after(s, x[0])

        states = roll(step, s, actions)
        return Done(starts * steps, float(law.system.energy(states[-1]).double().mean()), sum(spent))

    return call


def unmasking(rows: int, steps: int) -> Call:
    """Draws of a masked flow of tokens; the amount is the number of rows. Found: the mean token, which is drawn."""
    theta = {"theta": weights(laws.CELLS)}
    model = TokenFlow(laws.CELLS, theta, Frame.none(1, laws.TOKENS), vocabulary=(laws.VALUES,) * laws.TOKENS)
    x0, sampler = torch.full((1, rows, laws.TOKENS), HIDDEN), SAMPLERS["ctmc"](steps=steps)

    @torch.no_grad()
    def call() -> Done:
        x, nfe = counted(model, sampler, x0, [Generator().manual_seed(3)])
        return Done(rows, float(x.double().mean()), nfe)

    return call


def plans(n: int, dim: int, times: int) -> Call:
    """Exact pairs, problems side by side as the stage solves them; the amount is their number. Found: their mean cost."""
    sides = [torch.from_numpy(np.stack([cloud] * times)).float() for cloud in clouds(n, dim)]

    def call() -> Done:
        pairs = _coupled("exact", n, 1, (sides[0], sides[1]))
        return Done(times * n, float((pairs.x0[:] - pairs.x1[:])[0].double().square().sum(-1).mean()))

    return call


def distances(problems: str) -> Call:
    """Exact W2, problems side by side as the stage measures them; the amount is their number. Found: the mean square."""
    pairs = read_problems(problems)

    def call() -> Done:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            squares = list(pool.map(lambda pair: w2_squared(*pair), pairs))
        return Done(len(pairs), float(np.mean(squares)))

    return call


def sampling(models: int, points: int, weights: str, solver: dict[str, Any]) -> Call:
    """End points of every seed's flow; the amount is the number of points. Found: their mean length."""
    velocity = _stored(weights, models)
    x0 = torch.from_numpy(clouds(points, 2)[0]).float().repeat(models, 1, 1)
    options = {name: value for name, value in solver.items() if name != "name"}

    def call() -> Done:
        solved = sample(velocity, SAMPLERS[solver["name"]](**options), x0, [None] * models)
        return Done(models * points, float(solved[0].end.norm(dim=-1).double().mean()), solved[0].nfe)

    return call


# ---- Densities.

FLOWS = {
    "realnvp": partial(CouplingLayers.begin, layers=8),
    "spline": partial(CouplingLayers.begin, layers=4, transform=Spline()),
}


def likelihood_training(flow: str, seeds: int, steps: int, batch: int, points: str) -> Call:
    """Training a normalizing flow by likelihood on stored points; the amount is the number of steps of all models. Found:
    nats a point of 1000 that were held out, the first seed's.
    """
    objective = Likelihood(partial(MLP, width=64, depth=2), FLOWS[flow])
    x = torch.from_numpy(read_arrays(points)["x"]).expand(seeds, -1, -1)
    data, held_out = Points(x[:, 1000:]), Points(x[:, :1000])
    options = Training(steps=steps, batch=batch, lr=4e-3, clip=5.0, log_every=steps, ema=0.99)

    def call() -> Done:
        _, curves = fit(objective, data, held_out, _generators(seeds), options)
        return Done(steps * seeds, float(curves.validation[0, -1]))

    return call


def likelihoods(points: int, weights: str, solver: dict[str, Any]) -> Call:
    """log p of points by the exact divergence of a field; the amount is their number. Found: their mean."""
    velocity, options = _stored(weights, 1), {name: value for name, value in solver.items() if name != "name"}
    law = Pushforward.of(velocity, normal(2).log_prob, SOLVERS[solver["name"]](**options), Exact())
    x1 = torch.from_numpy(clouds(points, 2)[0]).float()[None]

    def call() -> Done:
        with torch.no_grad():
            found = law.log_prob(x1)
        return Done(points, float(found.log_prob.double().mean()), found.nfe)

    return call


def _stored(weights: str, models: int) -> Velocity:
    """The field whose weights both sides read, so many times."""
    one = torch.from_numpy(np.concatenate([array.ravel() for array in read_arrays(weights).values()]))
    return Velocity(NETWORK(inputs=3, outputs=2), {"theta": one.repeat(models, 1)}, Frame.none(models, 2))


# ---- Files that both sides read.


def write_weights(path: str) -> Call:
    """A trained field's weights, its frame's units folded in, as an .npz file."""

    def call() -> Done:
        x0, x1 = _points(1)
        pairs = _coupled("exact", 250, PASSES, (x0, x1))
        options = Training(steps=2000)
        held_out = Pairs(pairs.x0[:, :100], pairs.x1[:, :100])
        velocity, _ = fit(Matching(NETWORK), pairs, held_out, _generators(1), options)
        frame, weights = velocity.frame, unpack(velocity.theta.clone(), velocity.network.shapes)
        first, last = "0", str(velocity.network.depth)
        weights[f"{first}.weight"][:, :2] /= frame.scale
        weights[f"{first}.bias"] -= frame.shift @ weights[f"{first}.weight"][:, :2]
        for part in ("weight", "bias"):
            weights[f"{last}.{part}"] *= frame.speed
        arrays: dict[str, Any] = {name: weight[0].numpy() for name, weight in weights.items()}
        np.savez(path, **arrays)
        return Done(1)

    return call


def exercise() -> Descent:
    """From N((3, 3), I) to two modes."""
    modes = DATASETS["bimodal"](start=[3.0, 3.0])
    source, target = modes.source, modes.target
    assert isinstance(source, GaussianMixture)
    assert isinstance(target, GaussianMixture)
    target = target.double()
    return Descent(source.double(), KL().of(target.log_prob), 0.1, target)


def box(cells: int) -> Grid:
    """Of entropic steps, as the neighbour's are."""
    return Grid(cells=cells, low=-8.0, high=8.0, eps=0.3, debiased=False)


def movement(problem: str, cells: int) -> Call:
    """An entropic step; the amount is one. Found: the divergence to the target after it."""
    arrays = read_arrays(problem)
    before = torch.as_tensor(arrays["before"]).reshape(cells, cells)

    def call() -> Done:
        descent, grid = exercise(), box(cells)
        log_density = before.log() - math.log(grid.volume(2))
        state = {"log_density": log_density, "log_b": torch.zeros_like(log_density)}
        p = grid.weighted(grid.step(descent, state, Generator()))[1].numpy()
        return Done(1, float((p * np.log(p / arrays["target"])).sum()))

    return call


def write_grid(path: str) -> Call:
    """The W2 problems of the working tree's grid, one seed's: every flow's draws and the target."""

    def call() -> Done:
        arrays = []
        for name, flow in read(GRID)["flows"].items():
            target = read_split(flow["dataset"], "target", "test")
            samples = read_table(places.samples(name), seed=target.seeds[0])
            for place in np.unique(samples["draw"]):
                arrays += [samples["x"][samples["draw"] == place], target.x[0]]
        np.savez(path, *arrays)
        return Done(len(arrays) / 2)

    return call


def write_points(path: str) -> Call:
    """Points of two moons."""

    def call() -> Done:
        np.savez(path, x=_points(1)[1][0].numpy())
        return Done(1)

    return call


def write_clouds(path: str, n: int, dim: int) -> Call:
    """One W2 problem of two clouds."""

    def call() -> Done:
        np.savez(path, *clouds(n, dim))
        return Done(1)

    return call


def write_step(path: str, cells: int) -> Call:
    """A gradient flow's tenth step on a grid: the masses of the cells before it, those of the target, and the centres."""

    def call() -> Done:
        descent, grid = exercise(), box(cells)
        state = grid.begin(descent, Generator())
        for _ in range(9):
            state = grid.step(descent, state, Generator())
        x, before = grid.weighted(state)
        assert descent.target is not None
        target = descent.target.log_prob(x).exp()
        np.savez(path, x=x.numpy(), before=before.numpy(), target=(target / target.sum()).numpy())
        return Done(1)

    return call


# ---- Against no neighbour.


def products(n: int, times: int) -> Call:
    """Products of square matrices in float32; the amount is the number of floating-point operations."""
    a, b, out = (torch.randn(n, n) for _ in range(3))

    def call() -> Done:
        for _ in range(times):
            torch.mm(a, b, out=out)
        return Done(times * 2 * n**3)

    return call
