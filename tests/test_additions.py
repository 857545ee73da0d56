"""What the pages say one needs to write for a path, a coupling, an objective with its model is all that it takes."""

import csv
import json
from functools import partial

import pytest
import tiny
import torch
from documents import of_kind

from rectiflow import interpolants
from rectiflow.mixtures import Marginal, normal
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs
from rectiflow.predictions import PREDICTIONS, convert
from rectiflow.samplers import DDIM
from rectiflow.training import Training, fit
from rectiflow.transport import couplings

PATH, COUPLING, OBJECTIVE = (
    of_kind(f"docs/how-to/{page}.md", "python")[0].text for page in ("path", "coupling", "objective")
)


@pytest.fixture
def added(monkeypatch):
    """What the pages' examples enter into the two tables."""
    before = (interpolants.INTERPOLANTS, couplings.COUPLINGS)
    monkeypatch.setattr(interpolants, "INTERPOLANTS", dict(before[0]))
    monkeypatch.setattr(couplings, "COUPLINGS", dict(before[1]))
    for text in (PATH, COUPLING):
        exec(compile(text, "docs/how-to", "exec"), {"__name__": "example"})
    after = (interpolants.INTERPOLANTS, couplings.COUPLINGS)
    return tuple(
        {name: made for name, made in there.items() if name not in here} for here, there in zip(before, after, strict=True)
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
    field = Marginal(path, normal(2), normal(2))
    assert DDIM(20)(field, x0, generator).end.std() == pytest.approx(1, abs=0.3)


def test_a_coupling_of_indices_trains_a_field(added, generator):
    ((_, coupling),) = added[1].items()
    x0, x1 = torch.randn(2, 200, 2, generator=generator)
    i, j = couplings.minibatch(coupling, x0, x1, generator, 50, 2)
    pairs = Pairs(x0[i][None], x1[j][None])
    objective, options = Matching(partial(MLP, width=16, depth=2)), Training(steps=40, lr=1e-2, log_every=20)
    field, curves = fit(objective, pairs, pairs, [generator], options)
    assert field(torch.tensor(0.5), x0[None]).isfinite().all()
    assert curves.validation[0, -1] < curves.validation[0, 0]


def test_an_objective_with_its_model_is_a_file_of_forty_lines_and_rows(tmp_path_factory):
    """Trained, drawn from, measured and reported by a real `dvc repro`, with no other edit."""
    assert len([line for line in OBJECTIVE.splitlines() if line.strip()]) <= 40
    where = tiny.clone(tmp_path_factory.mktemp("distance"))
    (where / "src/rectiflow/objectives/distance.py").write_text(OBJECTIVE)
    for table, name, place in (("objectives", "distance", "Distance"), ("models", "pushed", "Pushed")):
        line = f'        "{name}": "rectiflow.objectives.distance:{place}",\n'
        tiny.replace(where, f"src/rectiflow/{table}/__init__.py", "    }\n)", f"{line}    }}\n)")
    tiny.replace(where, "params.yaml", "methods:\n", "methods:\n  distance: {objective: distance, model: {name: pushed}}\n")
    tiny.replace(where, "params.yaml", "grid:\n", "grid:\n  more: {datasets: [bimodal], methods: [distance]}\n")
    assert tiny.run(where, "python", "-m", "stages.grid").returncode == 0
    assert "train@bimodal-distance-round0" in tiny.repro(where)
    with open(where / "reports/results.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "distance"]
    assert {"w2", "w2_floor"} <= {row["metric"] for row in rows}
    assert json.loads((where / "reports/metrics.json").read_text())["bimodal"]["distance"]["round0"]["w2"] > 0
    assert "distance" in (where / "reports/index.html").read_text()
