"""A method far from the others through the stages: diffusion by noise prediction, with samplers of its own."""

import numpy as np
import pandas as pd
import pytest
import tiny

from rectiflow.interpolants import DDPM, Linear
from stages.fields import read_velocity

METHODS = """
  ddpm:
    coupling: independent
    interpolant: {name: ddpm, steps: 200}
    prediction: noise
    samplers: [{name: ddim, steps: 4}, {name: ddim, steps: 4, eta: 1.0}, {name: sde, steps: 4, noise: reverse}]
"""
CONTENT = (
    tiny.PARAMS.replace("methods:\n", f"methods:{METHODS}")
    .replace(
        "round0: &round0\n",
        """round0: &round0
  bimodal-ddpm-round0: {dataset: bimodal, method: ddpm, pairs: couple/bimodal-independent}
""",
    )
    .replace(
        "reflows: &reflows\n",
        """reflows: &reflows
  bimodal-ddpm-round1: {dataset: bimodal, method: ddpm, pairs: reflow/bimodal-ddpm-round1, flow: bimodal-ddpm-round0}
""",
    )
)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    where = tiny.clone(tmp_path_factory.mktemp("family"), CONTENT)
    tiny.repro(where, "train@bimodal-ddpm-round1", "evaluate@bimodal-ddpm-round0")
    return where


def test_a_method_is_sampled_by_its_own_samplers_and_measured_like_all_others(where):
    rows = pd.read_parquet(where / "data/evaluate/bimodal-ddpm-round0.parquet")
    drawn = rows[rows.metric == "w2"].groupby("solver", sort=False).nfe.unique()
    assert list(drawn.index) == ["euler", "dopri5", "ddim(eta 0)", "ddim(eta 1)", "sde(reverse 1)"]
    assert all(4 in drawn[name] for name in drawn.index[2:])
    assert rows.value.notna().all()
    assert (rows[rows.metric == "velocity_error"].value < 2).all()  # it has a closed form to be compared with


def test_rectification_starts_from_a_noise_prediction_and_goes_on_as_a_straight_flow(where):
    fields = [read_velocity(where / f"data/train/bimodal-ddpm-round{k}/velocity.safetensors")[0] for k in (0, 1)]
    assert [(type(field.path), field.prediction) for field in fields] == [(DDPM, "noise"), (Linear, "velocity")]
    assert fields[0].path.steps == 200
    pairs = pd.read_parquet(where / "data/reflow/bimodal-ddpm-round1/pairs.parquet")
    assert len(pairs) == 2 * 250
    assert abs(np.stack(pairs.x1)).max() < 20
