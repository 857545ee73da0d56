"""The promise of OT-CFM: optimal pairs make straighter flows than independent ones."""

from functools import partial

import pytest
import torch

from rectiflow.datasets import DATASETS, FINITE
from rectiflow.metrics import straightness
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs
from rectiflow.solvers import TABLEAUX, RungeKutta
from rectiflow.training import Training, fit
from rectiflow.transport.couplings import exact, independent, minibatch


def straightness_of(coupling, dataset):
    generator = torch.Generator().manual_seed(0)
    x0, x1 = (side.sample(2000, generator) for side in (dataset.source, dataset.target))
    i, j = minibatch(coupling, x0, x1, generator, batch=250, pairings=1)
    pairs = Pairs(x0[i][None], x1[j][None])
    options = Training(steps=400, batch=128, lr=1e-2, warmup=20, ema=0.98, log_every=200)
    velocity, _ = fit(Matching(partial(MLP, width=48, depth=3)), pairs, pairs, [generator], options)
    start = dataset.source.sample(1000, generator)[None]
    with torch.no_grad():
        flow = RungeKutta(TABLEAUX["euler"], 25)(velocity, start, trajectory=True)
    return straightness(flow.t, flow.x[:, 0])


CONTINUOUS = [name for name in DATASETS if name not in (*FINITE, "parquet")]
CONTINUOUS = [name for name in CONTINUOUS if not (found := DATASETS[name]()).vocabulary and not found.condition]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_optimal_pairs_make_straighter_flows(name):
    dataset = DATASETS[name]()
    assert straightness_of(exact, dataset) < straightness_of(independent, dataset)
