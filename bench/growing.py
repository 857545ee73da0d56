"""Pieces of work whose size grows: what `bench.costs` measures, as `bench.worker` calls it."""

from functools import partial

import numpy as np
import torch
from torch import Generator

from bench.clouds import clouds
from bench.worker import Call, Done
from rectiflow.gradient_flows.energies import KL
from rectiflow.gradient_flows.grid import Grid
from rectiflow.gradient_flows.particles import Particles
from rectiflow.gradient_flows.scheme import Descent, Scheme
from rectiflow.metrics import w2_squared
from rectiflow.mixtures import GaussianMixture, normal
from rectiflow.models.frame import Frame
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.training import Training, fit
from rectiflow.transport.couplings import exact, minibatch
from rectiflow.weights import initial
from stages.shared.start import keep_memory

keep_memory()

NETWORK = partial(MLP, width=64, depth=3, activation="selu")


def training(seeds: int = 1, dim: int = 2, points: int = 1000, steps: int = 100) -> Call:
    """Steps of training with batches of 256; the amount is the number of steps."""
    generator = Generator().manual_seed(0)
    x0, x1 = torch.randn(2, seeds, points, dim, generator=generator)
    pairs = Pairs(x0, x1)
    held_out = Pairs(pairs.x0[:, :100], pairs.x1[:, :100])
    options = Training(steps=steps, batch=256, log_every=steps)

    def call() -> Done:
        fit(Matching(NETWORK), pairs, held_out, [Generator().manual_seed(seed) for seed in range(seeds)], options)
        return Done(steps)

    return call


def sampling(points: int = 10_000, dim: int = 2) -> Call:
    """Euler's 100 steps; the amount is one sample."""
    network = NETWORK(inputs=dim + 1, outputs=dim)
    frame = Frame(torch.zeros(1, 1, dim), torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    velocity = Velocity(network, {"theta": initial(network, [Generator().manual_seed(0)])}, frame)
    x0 = torch.randn(1, points, dim)

    def call() -> Done:
        sample(velocity, SAMPLERS["euler"](steps=100), x0, [None])
        return Done(1)

    return call


def pairs(points: int, dim: int = 2, batch: int = 250) -> Call:
    """A pass of exact pairs, a batch after the other; the amount is one pass."""
    x0, x1 = (torch.from_numpy(cloud).float() for cloud in clouds(points, dim))

    def call() -> Done:
        minibatch(exact, x0, x1, Generator().manual_seed(0), min(batch, points), 1)
        return Done(1)

    return call


def distance(points: int, dim: int = 2) -> Call:
    """One exact W2; the amount is one."""
    call = partial(w2_squared, *map(np.asarray, clouds(points, dim)))

    def once() -> Done:
        call()
        return Done(1)

    return once


def relaxation(dim: int) -> Descent:
    """From N(1, I) to N(0, I), in steps of 0.1."""
    one, target = torch.ones(1, dtype=torch.float64), normal(dim).double()
    return Descent(GaussianMixture(one, torch.ones(1, dim, dtype=torch.float64), one), KL().of(target.log_prob), 0.1, target)


def followed(scheme: Scheme, dim: int, steps: int) -> Call:
    """Steps of a gradient flow; the amount is their number."""
    descent = relaxation(dim)
    scheme.fits(descent)

    def call() -> Done:
        generator = Generator().manual_seed(0)
        state = scheme.begin(descent, generator)
        for _ in range(steps):
            state = scheme.step(descent, state, generator)
        return Done(steps)

    return call


def grid(cells: int = 32, dim: int = 2) -> Call:
    """Ten debiased steps."""
    return followed(Grid(cells=cells, low=-6.0, high=7.0, eps=0.2), dim, 10)


def particles(points: int) -> Call:
    """Two steps of points by their own density."""
    followed(Particles(points=10, plans=0), 2, 1)()  # imports what torch's optimisers are made with: seconds
    return followed(Particles(points=points, plans=0), 2, 2)
