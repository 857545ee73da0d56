"""Parallel coordinates: where values lie, and lines that are told by pointer and keyboard."""

import pandas as pd
import pytest
from playwright.sync_api import expect
from test_report_page import browser, opened

from flows.compare import differing
from flows.revisions.commits import Revision
from flows.revisions.coordinates import coordinates
from flows.sweep import page
from stages.report.parallel import Axis, parallel
from stages.report.results import COLUMNS

__all__ = ["browser"]  # a fixture


@pytest.mark.parametrize(
    ("values", "places"),
    [
        (["1", "3", "2"], {"1": 0, "3": 1, "2": 0.5}),
        (["0.001", "0.01", "0.1"], {"0.001": 0, "0.01": 0.5, "0.1": 1}),
        (["5", "5", ""], {"5": 0.5}),
        (["icfm", "otcfm", "vp"], {"icfm": 0, "otcfm": 0.5, "vp": 1}),
        (["1", "nan"], {"1": 0, "nan": 1}),
        (["", ""], {}),
    ],
)
def test_values_lie_between_the_ends_of_their_axis(values, places):
    assert Axis("x", values).places() == pytest.approx(places)


def test_of_many_values_the_ends_are_written():
    assert Axis("x", [str(k) for k in range(20)]).ticks() == {"0": 0, "19": 1}


def test_a_line_is_broken_where_a_run_has_no_value():
    axes = [Axis(name, [value, "1"]) for name, value in (("a", "2"), ("b", ""), ("c", "3"))]
    drawn = parallel("t", ["<run>", "other"], axes)
    assert "<run>" not in drawn
    paths = [part.partition('d="')[2].partition('"')[0] for part in drawn.split("<path ")[1:]]
    assert [path.count("M") for path in paths] == [2, 1]
    assert 'aria-label="&lt;run&gt;: a 2, c 3"' in drawn


def results(shift: float, methods=("icfm",)) -> pd.DataFrame:
    rows = [["ring", method, 0, seed, "euler", 50, "reference", "w2", shift + seed] for method in methods for seed in (0, 2)]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_every_model_that_two_runs_have_is_drawn_with_its_means():
    found = {"a": results(1.0), "b": results(2.0, ("icfm", "alone"))}
    (section,) = coordinates({"a": {"lr": "0.1"}, "b": {"lr": "0.2"}}, found, ["w2"])
    assert "ring icfm, round 0" in section.body
    assert "alone" not in section.body
    assert 'aria-label="a: lr 0.1, W2 2"' in section.body
    assert 'aria-label="b: lr 0.2, W2 3"' in section.body
    assert coordinates({"a": {}}, {"a": results(1.0)}, ["w2"]) == []


def test_parameters_are_those_that_differ_from_the_first_in_any_revision():
    revisions = [
        Revision(name, None, results(0.0), params)
        for name, params in {"a": {"x": 1, "y": "u"}, "b": {"x": 2, "y": "u"}, "c": {"x": 1, "y": "v"}}.items()
    ]
    assert differing(revisions) == {"a": {"x": "1", "y": "u"}, "b": {"x": "2", "y": "u"}, "c": {"x": "1", "y": "v"}}


def test_a_sweep_is_seen_at_a_glance_and_line_by_line(browser, tmp_path):
    runs = [([f"run-{k}", str(lr)], Revision(f"run-{k}", None, results(lr), {})) for k, lr in enumerate((0.1, 0.2, 0.4))]
    (tmp_path / "sweep.html").write_text(page(["experiment", "training.lr"], runs))
    shown, errors = opened(browser, tmp_path / "sweep.html")
    lines, said = shown.locator(".run"), shown.locator("figure.lines output")
    faint = lambda k: float(lines.nth(k).evaluate("line => getComputedStyle(line).opacity"))
    assert [faint(k) for k in range(3)] == [1, 1, 1]
    lines.nth(1).focus()
    expect(said).to_have_text("run-1: training.lr 0.2, W2 1.2")
    assert faint(1) == 1 > max(faint(0), faint(2))
    shown.keyboard.press("ArrowRight")
    expect(said).to_have_text("run-2: training.lr 0.4, W2 1.4")
    shown.keyboard.press("ArrowRight")
    expect(said).to_contain_text("run-0")
    shown.evaluate("document.activeElement.blur()")
    x, y = (
        lines.nth(2)
        .locator("path")
        .evaluate("path => { const p = path.getPointAtLength(9).matrixTransform(path.getScreenCTM()); return [p.x, p.y]; }")
    )
    shown.mouse.move(x, y)
    expect(said).to_contain_text("run-2")
    table = shown.locator("table")
    table.locator("th", has_text="W2").click()
    assert [text.split()[0] for text in table.locator("tr > td:first-child").all_inner_texts()] == [
        "run-0",
        "run-1",
        "run-2",
    ]
    assert shown.evaluate("document.documentElement.scrollWidth") <= 1100
    assert not errors
    shown.context.close()
