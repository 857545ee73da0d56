"""The stage jko on real files: what it writes, what runs again, what goes on from where it was, what is refused."""

import io
import json
import re
import shutil
from pathlib import Path

import needs
import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from stages.report.animation import corners, moving_picture, player, quantised, together
from stages.report.browser.player import SCRIPT
from stages.report.html import document, section
from stages.report.pace import order, pace
from stages.shared.files import rounded
from stages.shared.io import read_table

FROM = "dataset: bimodal, source: {name: gaussian, mean: [1.5, 1.0]}, tau: 0.1, steps: 4, test: 50"
BOX = "scheme: {name: grid, low: -8, high: 8, cells: 40, eps: 0.2}"
ROWS = f"""gradient_flows:
  boxed: {{{FROM}, {BOX}}}
  walked: {{{FROM}, scheme: {{name: langevin, points: 80}}, recover: {{centres: 4}}}}
  noised: {{dataset: bimodal, source: {{name: target}}, target: source, tau: 0.1, steps: 3, test: 40,
    scheme: {{name: flow, points: 60}}, teacher: bimodal-icfm-round0}}
  straight: {{dataset: bimodal, tau: 0.25, steps: 4, test: 40, scheme: {{name: velocity, points: 60}},
    teacher: bimodal-icfm-round1}}
"""
FOLLOWED = tiny.PARAMS + ROWS
NAMES = ("boxed", "walked", "noised", "straight")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tiny.computed(tmp_path_factory, FOLLOWED)


@pytest.fixture
def changed(project, tmp_path):
    """A copy to change things in."""
    return Path(shutil.copytree(project, tmp_path / "copy", symlinks=True))


def path(project, name, which):
    return project / f"data/evaluate/jko/{name}/{which}"


def steps(project, name):
    return pd.DataFrame(read_table(path(project, name, "steps.parquet")))


def test_every_step_is_written_and_the_energy_falls(project):
    for name, seeds, count in (("boxed", [0], 4), ("walked", [0, 3], 4), ("noised", [0, 3], 3)):
        found = steps(project, name)
        assert found.seed.unique().tolist() == seeds
        assert found.groupby("seed").step.apply(list).tolist() == [list(range(count + 1))] * len(seeds)
        first, last = (found[found.step == k].energy.to_numpy() for k in (0, count))
        if name != "noised":  # whose teacher has seen 60 batches
            assert (last < first).all()
        frames = read_table(path(project, name, "frames.parquet"))
        assert sorted(set(frames["step"].tolist())) == list(range(count + 1))
    for name in NAMES:
        length = read_table(path(project, name, "measures.parquet"), metric="jko_length")
        for seed, value in zip(length["seed"].tolist(), length["value"].tolist(), strict=True):
            mine = steps(project, name)
            assert value == rounded(sum(mine[(mine.seed == seed) & (mine.step > 0)].length))  # of what is written
    boxed = steps(project, "boxed")
    np.testing.assert_allclose(boxed.energy, boxed.exact, rtol=0.02)
    np.testing.assert_allclose(boxed.mode_0 + boxed.mode_1, 1, atol=1e-10)


def test_the_numbers_are_in_the_report_the_metrics_and_the_results(project):
    results = pd.read_csv(project / "reports/results.csv")
    assert set(results[results.metric == "jko_energy"].method) == set(NAMES)
    assert set(results[results.metric == "jko_w2_exact"].method) == {"boxed", "walked", "noised"}  # a field has no tau
    length, distance = (
        results[(results.metric == metric) & (results.method == "straight")].value
        for metric in ("jko_length", "jko_distance")
    )
    assert (length.to_numpy() > 0.9 * distance.to_numpy()).all()
    metrics, page = ((project / "reports" / name).read_text() for name in ("metrics.json", "index.html"))
    assert '"jko_energy"' in metrics
    assert 'id="gradient_flows"' in page
    assert "Ways between the two laws of bimodal" in page
    for name in NAMES:
        assert f"<b>{name}</b>" in page
    assert Image.open(project / "reports/result.png").n_frames == 5


def test_a_step_length_runs_its_row_and_more_steps_go_on_to_the_same_bytes(changed):
    tiny.replace(changed, "params.yaml", "tau: 0.1, steps: 3", "tau: 0.05, steps: 3")
    assert set(tiny.repro(changed)) == {"check", "jko@noised", "report"}
    before = {name: steps(changed, name) for name in ("boxed", "walked")}
    tiny.replace(changed, "params.yaml", "tau: 0.1, steps: 4", "tau: 0.1, steps: 6")
    assert set(tiny.repro(changed)) == {"check", "jko@boxed", "jko@walked", "report"}
    parts = ("steps.parquet", "frames.parquet", "states.safetensors", "measures.parquet")
    went_on = {(name, part): path(changed, name, part).read_bytes() for name in before for part in parts}
    for name, of in before.items():
        after = steps(changed, name)
        pd.testing.assert_frame_equal(after[after.step <= 4].reset_index(drop=True), of.reset_index(drop=True))
        path(changed, name, "states.safetensors").unlink()  # nothing to go on from
        done = tiny.run(changed, "python", "-m", "stages.jko", name)
        assert done.returncode == 0, done.stderr
    assert went_on == {(name, part): path(changed, name, part).read_bytes() for name in before for part in parts}


def test_comparisons_and_metrics_tell_what_a_longer_step_changed(changed):
    tiny.replace(
        changed,
        "params.yaml",
        "tau: 0.1, steps: 4, test: 50, scheme: {name: grid",
        "tau: 0.2, steps: 4, test: 50, scheme: {name: grid",
    )
    tiny.repro(changed)
    said = tiny.run(changed, "dvc", "metrics", "diff", "--json").stdout
    moved = json.loads(said)["reports/metrics.json"]
    assert moved["bimodal.boxed.round0.jko_energy"]["diff"] < 0
    assert not any("walked" in key for key in moved)
    done = tiny.run(changed, "python", "-m", "flows.compare", "HEAD", "--metrics", "jko_energy,jko_w2_exact")
    assert done.returncode == 0, done.stderr
    assert "boxed" in (changed / "reports/compare.html").read_text()


# ---- How fast it goes.


def falling(energy, tau=0.1, steps=50):
    time = tau * np.arange(steps + 1)
    return pd.DataFrame({"seed": 0, "step": np.arange(steps + 1), "time": time, "energy": energy(time)})


def test_the_pace_of_what_decays_at_one_rate_is_its_half_life():
    found = pace(falling(lambda t: 5 * 2.0 ** (-t / 1.5)))
    assert found == pytest.approx((1.5, 5.0, 1.5, 1.5), abs=0.1)
    slow = pace(falling(lambda t: 1 + 4 * np.exp(-3 * t)))
    assert np.isnan(slow.tenth)
    assert slow.late > 100 * slow.early


def test_the_order_is_that_of_three_halved_steps():
    rows, steps = {}, {}
    for name, tau in (("a", 0.2), ("b", 0.1), ("c", 0.05)):
        rows[name] = {"dataset": "bimodal", "tau": tau, "steps": round(1 / tau), "scheme": {"name": "exact"}}
        steps[name] = falling(lambda t, tau=tau: np.exp(-t) + tau**2, tau, round(1 / tau))
    assert order(rows, steps).order == pytest.approx(2)
    assert order({"a": rows["a"], "b": rows["b"], "c": rows["c"] | {"steps": 21}}, steps) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dataset: bimodal", "dataset: mine", "boxed.dataset: 'mine' is not one of bimodal"),
        ("mean: [1.5, 1.0]", "mean: [1.5]", "boxed.source: it has 1 dimensions, and bimodal has 2"),
        ("tau: 0.1", "tau: 0.0", "boxed.tau: 0.0: input should be greater than 0"),
        ("steps: 4", "steps: 0", "boxed.steps: 0: input should be greater than or equal to 1"),
        ("eps: 0.2}", "eps: 0.02}", "boxed.scheme.eps: 0.02 underflows"),
        ("low: -8,", "low: -3,", "boxed.scheme.high: 8.0 and low, -3.0, cut off"),
        ("name: langevin, points: 80", "name: walk", "walked.scheme.name: 'walk' is not one of grid, exact"),
        ("name: langevin, points: 80", "name: flow", "walked.scheme.name: 'flow' follows kl to one Gaussian alone"),
        ("centres: 4", "centres: 1", "walked.recover.centres: 1 must be at least 2"),
        (
            "teacher: bimodal-icfm-round0",
            "teacher: bimodal-icfm-round1",
            "noised.teacher: 'bimodal-icfm-round1' has no score",
        ),
        (
            "teacher: bimodal-icfm-round1",
            "teacher: mine-otcfm-round0",
            "straight.teacher: 'mine-otcfm-round0' is not one of",
        ),
        ("tau: 0.25, steps: 4, test", "tau: 0.25, steps: 5, test", "straight.scheme.name: 'velocity' goes from time 0 to 1"),
        ("bimodal, tau: 0.25", "bimodal, source: {name: target}, tau: 0.25", "straight.source: {'name': 'target'} must be"),
        ("bimodal, tau: 0.25", "bimodal, target: source, tau: 0.25", "straight.target: 'source' must be 'target'"),
        (
            "scheme: {name: velocity, points: 60}",
            "recover: {}, scheme: {name: velocity}",
            "straight.recover: 'velocity' follows",
        ),
        (
            "cells: 40, eps: 0.2}",
            "cells: 40, eps: 0.2}, teacher: bimodal-icfm-round0",
            "'bimodal-icfm-round0' should be left out",
        ),
        ("teacher: bimodal-icfm-round0", "teacher: nobody", "noised.teacher: 'nobody' is not one of"),
        ("target: source,", "target: source, energy: {name: warmth},", "noised.energy.name: 'warmth' is not one of kl"),
    ],
)
def test_bad_rows_are_refused_in_one_line(tmp_path, old, new, said):
    rows = ROWS.replace(old, new, 1)
    assert rows != ROWS
    where = tiny.clone(tmp_path, tiny.PARAMS + rows)
    done = tiny.run(where, "python", "-m", "stages.check")
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---- Pictures that move.


def test_a_moving_picture_has_a_frame_for_every_step_and_the_same_bytes_twice():
    frames = np.random.default_rng(0).normal(size=(5, 30, 2))
    for kind in ("GIF", "PNG"):
        made = moving_picture({"a": frames, "b": 2 * frames}, kind)
        assert Image.open(io.BytesIO(made)).n_frames == 5
        assert made == moving_picture({"a": frames, "b": 2 * frames}, kind)


def test_places_are_whole_numbers_within_the_box():
    x = np.array([[0.0, 0.0], [1.0, 2.0], [50.0, -50.0]])
    low, high = np.zeros(2), np.array([1.0, 2.0])
    assert quantised(x, low, high).tolist() == [[0, 0], [4095, 4095], [4095, 0]]
    low, high = corners({"a": x[:2]})
    assert np.allclose(high - low, (high - low)[0])


def test_a_player_needs_nothing_from_elsewhere():
    short, long = np.zeros((3, 4, 2)), np.zeros((9, 4, 2))
    frames = together({"a": short, "long": long, "b": short + 1})
    page = player("kl to </script>", frames, ["0", "1", "</script>"], gif=b"GIF")
    assert page.count("</script>") == 1
    assert not re.search(r"https?://", page)
    assert '"names": ["a", "b"]' in page


def test_the_player_plays_stops_at_every_tenth_step_and_works_by_keyboard(tmp_path):
    generator = np.random.default_rng(0)
    frames = {"a": generator.normal(size=(26, 30, 2)), "b": generator.normal(size=(26, 40, 2))}
    moving = section("moving", "Moving", player("two", frames, [f"{k}, time {k / 10:.2f}" for k in range(26)]))
    (tmp_path / "page.html").write_text(document("x", "x", [moving], scripts=[SCRIPT]))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.browser(), args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        errors = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        said, slider = page.locator("figure output"), page.get_by_role("slider")
        first = page.locator("canvas").evaluate("canvas => canvas.toDataURL()")
        page.get_by_role("button", name="next ten").click()
        expect(said).to_have_text("10, time 1.00")
        page.wait_for_timeout(300)
        expect(said).to_have_text("10, time 1.00")
        assert page.locator("canvas").evaluate("canvas => canvas.toDataURL()") != first
        slider.focus()
        page.keyboard.press("ArrowRight")
        expect(said).to_have_text("11, time 1.10")
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="pause")).to_be_visible()
        expect(said).to_have_text("25, time 2.50")
        expect(page.get_by_role("button", name="play")).to_be_visible()
        browser.close()
    assert not errors
