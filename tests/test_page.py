"""How numbers are printed, and what the page shows of models of every kind."""

import re

import numpy as np
import pandas as pd
import pytest

from rectiflow.statistics import Estimate
from stages.report import figures
from stages.report.evidence import Evidence
from stages.report.figures import Drawn, overview
from stages.report.mosaics import mosaic
from stages.report.page import page
from stages.report.printing import html, plain, shown
from stages.report.results import COLUMNS, headlines, per_round, title
from stages.shared.measures import MEASURES, Measure

NAN = float("nan")


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [
        (0.28625, 0.0371, "0.286 ± 0.037"),
        (27491.2, 4190.7, "27491 ± 4191"),
        (1.0, NAN, "1"),
        (-0.123456, NAN, "-0.123"),
        (0.25, 0.0, "0.25 ± 0"),
        (0.0, 0.0, "0 ± 0"),
        (0.000331, 0.000014, "0.000331 ± 0.000014"),
        (5.8334e-06, 1.24e-07, "5.83e-06 ± 1.2e-07"),
        (1e-9, 2.5e-07, "1.0e-09 ± 2.5e-07"),
        (0.0, 2.5e-07, "0.0e+00 ± 2.5e-07"),
        (0.28625091, 5.04e-07, "0.28625091 ± 5.0e-07"),
        (9.96, 0.0996, "9.960 ± 0.100"),
        (NAN, NAN, "nan"),
    ],
)
def test_an_estimate_is_printed_by_one_rule(mean, half, said):
    value = Estimate(mean, half, 3)
    assert plain(value) == said
    assert re.sub("<[^>]*>", "", html(value)) == said
    assert ('<span class="half">' in html(value)) == ("±" in said)


def test_what_there_is_not_is_printed_as_nothing():
    assert plain(None) == html(None) == shown([]) == ""
    assert shown([2.0]) == "2"


def rows(method, k, role, nfe, **metrics):
    """Measurements of a model by three seeds that move together."""
    solver, flow = "euler" if nfe > 1 or role == "one_step" else "once", ["ring", method, k]
    spread = {"w2": (solver, nfe, role)}
    return [
        [*flow, seed, *spread.get(name, ("", 0, "")), name, value + 0.01 * np.sin(seed) + 0.001 * seed * value]
        for name, value in metrics.items()
        for seed in range(3)
    ]


FLOW = dict(straightness=1.0, chord_deviation=0.5, npe=0.1)
RESULTS = [
    *rows("icfm", 0, "reference", 50, w2=0.3, w2_floor=0.2, **FLOW),
    *rows("icfm", 0, "one_step", 1, w2=2.0),
    *rows("icfm", 1, "reference", 50, w2=0.31, w2_floor=0.2, **FLOW),
    *rows("icfm", 1, "one_step", 1, w2=0.32),
]
DENSITY = rows("nvp", 0, "reference", 1, w2=0.4, w2_floor=0.2, nll=1.03, nll_floor=1.0)


def drawn(nfe, flow, shape=(2,), n=40):
    generator = np.random.default_rng(0)
    target, reference, one_step = generator.normal(size=(3, n, int(np.prod(shape)))).astype(np.float32)
    paths = generator.normal(size=(3, 10, int(np.prod(shape)))).astype(np.float32)
    return Drawn(target, reference, nfe, 0, shape, *([one_step, paths] if flow else []))


def made(rows, shown, params="seeds: [0]"):
    """The page of some models whose losses are those of a likelihood, below zero."""
    losses = pd.DataFrame([[*key, step, -0.5] for key in shown for step in (10, 20)])
    losses.columns = ["dataset", "method", "round", "step", "validation"]
    return page(Evidence(pd.DataFrame(rows, columns=COLUMNS)), losses, shown, params, [], [], {}, {})


def header(text):
    return re.findall("<th>(.*?)</th>", text.partition("<h3>ring</h3>")[2].partition("</thead>")[0])


def test_a_table_of_one_kind_of_draws_says_how_many_evaluations_they_took():
    shown = {("ring", "icfm", k): drawn(50, True) for k in (0, 1)}
    text = made(RESULTS, shown)
    columns = ["model", "W2, 50 steps", "W2, 1 step", "W2 floor", "straightness S", "chord deviation", "NPE"]
    assert header(text) == columns
    assert "2 trained models on 1 data sets, 3 seeds each" in text
    assert "ring, 50 Euler steps: draws" in text
    assert "W2, 1 step / round 0, 50 steps" in text
    assert "NLL" not in text


def test_a_model_that_is_no_flow_has_its_row_its_likelihood_and_its_panel():
    both = {("ring", "icfm", k): drawn(50, True) for k in (0, 1)} | {("ring", "nvp", 0): drawn(1, False)}
    text = made(RESULTS + DENSITY, both)
    assert header(text)[1:4] == ["W2, reference", "W2, 1 step", "W2 floor"]
    assert header(text)[-2:] == ["NLL", "NLL floor"]
    line = text[text.index("<td>nvp, round 0</td>") :].partition("</tr>")[0]
    assert line.count("<td></td>") == 4  # one step, straightness, chord deviation, NPE
    assert "1.03" in line
    assert "ring, reference: draws" in text
    assert "ring: paths of 50 Euler steps" in text
    assert "NLL is the mean of -log p over the test points" in text
    results = pd.DataFrame(RESULTS + DENSITY, columns=COLUMNS)
    found = headlines(results)["ring"]["nvp"]["round0"]
    assert set(found) == {"w2", "w2_floor", "nll", "nll_floor"}
    assert found["nll"] == pytest.approx(1.03, abs=0.02)
    assert set(per_round(results, ["straightness", "w2"]).method) == {"icfm"}


def test_a_grid_without_any_flow_has_a_page_and_a_picture():
    shown = {("ring", "nvp", 0): drawn(1, False)}
    text = made(DENSITY, shown)
    assert header(text) == ["model", "W2, 1 evaluation", "W2 floor", "NLL", "NLL floor"]
    for name in ("trajectories", "rectified", "straighter"):
        assert f'id="{name}"' not in text
    evidence = Evidence(pd.DataFrame(DENSITY, columns=COLUMNS))
    assert overview(evidence.nfe, evidence.floors, shown).startswith(b"\x89PNG")


def test_what_is_better_when_larger_is_bold_where_it_is_largest(monkeypatch):
    monkeypatch.setitem(MEASURES, "auroc", Measure("AUROC", better="larger", shown=("summary", "ranked")))
    more = [*rows("icfm", 0, "", 0, auroc=0.5), *rows("icfm", 1, "", 0, auroc=0.9)]
    text = made(RESULTS + more, {("ring", "icfm", k): drawn(50, True) for k in (0, 1)})
    lines = {k: text[text.index(f"<td>icfm, round {k}</td>") :].partition("</tr>")[0] for k in (0, 1)}
    cells = {k: re.findall("<td>(.*?)</td>", line) for k, line in lines.items()}
    assert "AUROC" in header(text)
    assert ["best" in cells[k][-1] for k in (0, 1)] == [False, True]
    assert ["best" in cells[k][1] for k in (0, 1)] == [True, False]  # W2 is smallest in round 0


@pytest.mark.parametrize(("shape", "image"), [((1, 8, 8), True), ((3, 4, 5), True), ((64,), False), ((2,), False)])
def test_an_image_is_told_by_its_shape(shape, image):
    key, one = ("ring", "icfm", 0), drawn(50, True, shape)
    assert (figures.targets(one) is not None) == image
    assert figures.samples({key: one.reference}, {key: one}).startswith("data:image/png")


def test_a_picture_keeps_its_pixels_in_place():
    grey, colour = np.arange(12.0).reshape(1, 12) / 12, np.arange(36.0).reshape(1, 36) / 36
    tiles = mosaic(grey, (1, 3, 4), rows=1, columns=2)
    assert tiles.shape == (4, 10)
    assert (tiles[:3, :4] == grey.reshape(3, 4)).all()
    assert (tiles[3] == -1).all()
    assert (tiles[:, 5:] == -1).all()
    tiles = mosaic(colour, (3, 3, 4), rows=1, columns=2)
    assert np.allclose(tiles[:3, :4], (colour.reshape(3, 3, 4).transpose(1, 2, 0) + 1) / 2)


def test_titles_of_several_kinds_of_draws_name_none():
    both = pd.DataFrame(RESULTS + DENSITY, columns=COLUMNS)
    assert title(both, "w2") == "W2, reference"
    assert title(both[both.method == "icfm"], "w2") == "W2, 50 steps"
    assert title(both, "nll") == "NLL"
