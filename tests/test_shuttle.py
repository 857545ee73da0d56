"""A real table of outliers: NASA's shuttle, 45 586 rows as they should be and 3511 that are not, as river's wheel has it."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch

from rectiflow.baselines import BASELINES
from rectiflow.detection import detect
from rectiflow.models.coupling_layers import CouplingLayers
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.likelihood import Likelihood
from rectiflow.pairs import Points
from rectiflow.tabular import table
from rectiflow.training import Training, fit


@pytest.fixture(scope="module")
def parts():
    """Points to train on, to validate and to test with, and outliers."""
    found = find_spec("river")
    assert found is not None
    assert found.origin is not None
    rows = pd.read_csv(Path(found.origin).parent / "datasets/shuttle.csv.gz")
    marked = torch.from_numpy(rows.pop("anomaly").to_numpy() == 1)
    assert (rows.shape, int(marked.sum())) == ((49_097, 9), 3511)
    shuttle = table(torch.from_numpy(rows.to_numpy()), marked=marked, scaling="standard")
    x = shuttle.target.rows[torch.randperm(len(shuttle.target.rows), generator=torch.Generator().manual_seed(0))]
    return x[:20_000], x[20_000:22_000], x[22_000:26_000], shuttle.outliers.rows


def test_a_flow_tells_the_shuttles_outliers_as_well_as_scikit_learn_does(parts):
    train, *others = parts
    torch.set_num_threads(1)
    objective = Likelihood(partial(MLP, width=32, depth=2), partial(CouplingLayers.begin, layers=4))
    training = Training(steps=200, batch=256, lr=3e-3, clip=5.0, log_every=100)
    flow, _ = fit(objective, Points(train[None]), Points(others[0][None]), [torch.Generator().manual_seed(0)], training)
    with torch.no_grad():
        found = detect(*(flow.log_prob(x[None])[0].numpy() for x in others))
    forest = BASELINES["isolation_forest"](trees=50).fit(train.numpy(), 0)
    beside = detect(*(forest(x.numpy()) for x in others))
    assert found.auroc > beside.auroc - 0.002
    assert found.auroc > 0.995
    assert found.accuracy > 0.95
