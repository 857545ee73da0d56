"""What a run notes of its time: what processes use, where the seconds go, and that no result knows of it."""

import json
import random
import resource
import sys
import time
from types import SimpleNamespace

import pytest
import tiny
from playwright.sync_api import expect
from test_report_page import browser, opened

from flows.running import commands, timeline
from flows.running.times import PARTS, Stage, Times, covered, lanes, parts
from flows.running.warm import SUPPORTED

__all__ = ["browser"]  # a fixture

HUNGRY = """
import time
held, end = bytearray(400 * 2**20), time.process_time() + 0.6
held[::4096] = b"x" * len(held[::4096])
while time.process_time() < end:
    pass
"""


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["python", "-m", "hungry"], marks=pytest.mark.skipif(not SUPPORTED, reason="forks are for Linux")),
        [sys.executable, "-m", "hungry"],
    ],
    ids=["forked", "started"],
)
def test_the_kernel_says_what_a_command_used(tmp_path, words, monkeypatch):
    (tmp_path / "hungry.py").write_text(HUNGRY)
    monkeypatch.setattr(
        commands, "prepare_kwargs", lambda stage: {"cwd": str(tmp_path), "env": {"PATH": "", "PYTHONPATH": ""}}
    )
    runner = commands.Commands()
    hungry = runner.run(SimpleNamespace(cmd=" ".join(words)), print)
    twice = runner.run(SimpleNamespace(cmd=[" ".join(words)] * 2), print)
    assert 0.5 < hungry.user + hungry.system < 3
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # what Linux counts for a program that this one starts
    assert 400 * 2**20 < hungry.peak <= max(1200 * 2**20, own)
    assert twice.user + twice.system > 1.1
    assert twice.peak == pytest.approx(hungry.peak, rel=0.2)  # one after the other


def some_stages(generator: random.Random) -> list[Stage]:
    found = []
    for k in range(generator.randrange(1, 8)):
        a, b, c, d, e = sorted(generator.randrange(0, 80) for _ in range(5))
        ran = generator.random() < 0.7
        found.append(Stage(f"stage@{k}", (a, e), "ran", b if ran else None, (c, d) if ran else None))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_every_second_of_a_run_is_counted_once(seed):
    """Against a look at every second by itself."""
    stages, wall = some_stages(random.Random(seed)), 100.0
    first, last = min(of.whole[0] for of in stages), max(of.whole[1] for of in stages)
    counted = dict.fromkeys(PARTS, 0)
    for second in range(int(wall)):
        inside = lambda spans, second=second: any(begin <= second < end for begin, end in spans)
        if second < first:
            counted["start"] += 1
        elif second >= last:
            counted["end"] += 1
        elif inside([of.command for of in stages if of.command]):
            counted["stages"] += 1
        else:
            counted["DVC" if inside([span for of in stages for span in of.dvc]) else "between"] += 1
    assert parts(stages, wall) == counted
    assert sum(parts(stages, wall).values()) == pytest.approx(wall)


@pytest.mark.parametrize("seed", range(10))
def test_what_lies_in_one_lane_does_not_overlap_and_there_are_no_more_lanes_than_needed(seed):
    generator = random.Random(seed)
    spans = [(begin, begin + generator.randrange(1, 9)) for begin in (generator.randrange(60) for _ in range(40))]
    found = lanes(spans)
    for lane in set(found):
        mine = [span for span, of in zip(spans, found, strict=True) if of == lane]
        assert covered(mine) == sum(end - begin for begin, end in mine)
    assert len(set(found)) == max(sum(begin <= t < end for begin, end in spans) for t in range(80))


def test_the_last_runs_are_kept_what_cannot_be_read_is_replaced_and_no_run_fails_of_it(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / timeline.JSON).write_text("{")
    for k in range(timeline.RUNS + 2):
        with timeline.timed(tmp_path, time.time()) as times, times.stage(f"<b>{k}"):
            pass
    runs = json.loads((tmp_path / timeline.JSON).read_text())["runs"]
    assert [run["stages"][0]["name"] for run in runs] == [f"<b>{k}" for k in range(timeline.RUNS + 1, 1, -1)]
    assert "<b>3" not in (tmp_path / timeline.PAGE).read_text()
    (tmp_path / "file").touch()
    with timeline.timed(tmp_path / "file", time.time()) as times, times.stage("code"):
        pass


def test_a_stage_that_fails_is_noted_and_a_run_without_stages_is_not(tmp_path):
    with pytest.raises(ValueError, match="broke"), timeline.timed(tmp_path, time.time()) as times, times.stage("train"):
        raise ValueError("broke")
    (run,) = timeline.earlier(tmp_path / timeline.JSON)
    assert run["stages"][0]["how"] == "failed"
    with timeline.timed(tmp_path, time.time()):
        pass
    assert timeline.earlier(tmp_path / timeline.JSON) == [run]
    assert not Times().stages


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A clone that `dvc repro` computed, without times, after a flow that did it again: its files before, its seconds."""
    where = tiny.computed(tmp_path_factory)
    assert not (where / timeline.JSON).exists()
    before = hashed(where)
    (where / "README.md").write_text("an edit of the user\n")
    start = time.monotonic()
    done = tiny.flow(where, "--force", "--workers", "2")
    wall = time.monotonic() - start
    assert done.returncode == 0, done.stdout
    return where, before, wall


def hashed(where) -> dict[str, bytes]:
    """What git tracks or DVC hashes."""
    paths = [where / "dvc.lock", *(path for path in (where / "reports").rglob("*.*") if path.stem != "times")]
    return {str(path.relative_to(where)): path.read_bytes() for path in paths}


def test_no_result_knows_of_the_times_and_git_does_not_either(run):
    where, before, _ = run
    assert hashed(where) == before
    assert "reports/index.html" in before
    assert tiny.git(where, "status", "--porcelain").split() == ["M", "README.md"]


def test_the_parts_of_a_run_add_up_to_what_a_clock_outside_says(run):
    where, _, wall = run
    (noted,) = timeline.earlier(where / timeline.JSON)
    assert sum(noted["parts"].values()) == pytest.approx(wall, rel=0.1)
    ran = [of for of in noted["stages"] if of["command"]]
    assert noted["parts"]["stages"] <= sum(end - begin for begin, end in (of["command"] for of in ran))
    assert noted["parts"]["stages"] > 0.1 * wall
    assert len(set(lanes([of["command"] for of in ran]))) <= 2
    assert {of["how"] for of in ran} == {"ran"}
    assert all(2**20 < of["used"]["peak"] < 4 * 2**30 for of in ran)
    assert all(0 < of["used"]["user"] + of["used"]["system"] for of in ran)
    assert noted["revision"] == tiny.git(where, "rev-parse", "HEAD").strip()
    assert noted["dirty"] == [" M README.md"]


def test_the_page_of_times_has_a_bar_a_stage_and_a_table_that_sorts(run, browser):
    where, *_ = run
    page, errors = opened(browser, where / timeline.PAGE)
    (noted,) = timeline.earlier(where / timeline.JSON)
    ran = [of["name"] for of in noted["stages"] if of["command"]]
    assert {title.split(":")[0] for title in page.locator("svg title").all_text_contents()} == set(ran)
    table = page.locator("table").last
    table.locator("th", has_text="peak memory").click()
    peaks = [float(text) for text in table.locator("tr > td:last-child").all_inner_texts() if text]
    assert peaks == sorted(peaks)
    assert len(peaks) == len(ran)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1100
    page.get_by_role("link", name="The report").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Flows from source to target")
    page.get_by_role("link", name="times of the last runs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Times of the last runs")
    assert not errors
    page.context.close()
