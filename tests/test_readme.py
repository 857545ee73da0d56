"""What the README says one needs to write for a new path and a new coupling is all that it takes."""

import re

import pytest
import torch
from imports import ROOT

from rectiflow import interpolants
from rectiflow.mixtures import Marginal, normal
from rectiflow.networks.mlp import MLP
from rectiflow.pairs import Pairs
from rectiflow.predictions import PREDICTIONS, convert
from rectiflow.samplers import DDIM
from rectiflow.training import Training, fit
from rectiflow.transport import couplings


@pytest.fixture
def added(monkeypatch):
    """The two registries after the README's example."""
    paths, pairings = dict(interpolants.INTERPOLANTS), dict(couplings.COUPLINGS)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {**vars(interpolants), **vars(couplings), "INTERPOLANTS": paths, "COUPLINGS": pairings}
    exec(compile(code, "README.md", "exec"), names)
    return (
        {name: path for name, path in paths.items() if name not in interpolants.INTERPOLANTS},
        {name: pairing for name, pairing in pairings.items() if name not in couplings.COUPLINGS},
    )


def test_a_path_of_two_weights_has_velocities_conversions_samplers_and_an_oracle(added, generator):
    ((_, build),) = added[0].items()
    path = build()
    t = torch.full((50,), 0.6)
    x0, x1 = torch.randn(2, 50, 2, generator=generator)
    (xt, ut), h = path.path(t, x0, x1), 1e-2
    after, before = (path.path(t + step, x0, x1)[0] for step in (h, -h))
    assert torch.allclose(ut, (after - before) / (2 * h), rtol=1e-2, atol=1e-3)
    for name in PREDICTIONS:
        value = convert(path, t, xt, ut, "velocity", name)
        assert torch.allclose(convert(path, t, xt, value, name, "velocity"), ut, atol=1e-3)
    field = Marginal(path, normal(2), normal(2)).velocity
    assert DDIM(20)(field, x0, path, generator).end.std() == pytest.approx(1, abs=0.3)


def test_a_coupling_of_indices_trains_a_field(added, generator):
    ((_, coupling),) = added[1].items()
    x0, x1 = torch.randn(2, 200, 2, generator=generator)
    i, j = couplings.minibatch(coupling, x0, x1, generator, 50, 2)
    pairs = Pairs(x0[i][None], x1[j][None])
    field, curves = fit(MLP(2, 16, 2), interpolants.Linear(), pairs, pairs, [0], Training(steps=40, lr=1e-2, log_every=20))
    assert field(torch.tensor(0.5), x0[None]).isfinite().all()
    assert curves.validation[0, -1] < curves.validation[0, 0]
