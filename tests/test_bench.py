"""The benchmarks' own arithmetic and processes. How fast anything is, no test says."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import costs, growing
from bench.__main__ import Row, agreement, line, measure, trainings
from bench.ours import plans, training
from bench.sides import ALONE, THREADS, TWO, Process, Rate, Side
from stages import check
from stages.grid import write_grid

SMALL = ("pairs", {"points": 40})


class Steady:
    """A side whose rate in each mode is known."""

    def __init__(self, rates, found=None):
        self.rates, self.found, self.asked = rates, found, []

    def do(self, work, mode):
        self.asked.append(mode)
        return Rate(self.rates[mode], self.found, None)


@pytest.fixture
def row():
    return Row("sort; against others", "numbers/s", 2.0, ("mine", {}), ("other", {}), runs=3)


def test_ours_is_two_processes_and_theirs_one_in_its_faster_way_and_two(row):
    ours, theirs = Steady({TWO: 9}), Steady({ALONE: 1, THREADS: 2, TWO: 3})
    found = measure(row, ours, theirs)
    assert (found["ours"], found["theirs"], found["ratio"], found["ratio_to_two"]) == (9, 2, 4.5, 3)
    assert found["modes"] == [TWO, THREADS]
    assert theirs.asked == [ALONE, THREADS, TWO, *[THREADS, TWO] * row.runs]
    assert "| 4.50 | 4.50 to 4.50 | 3.00 | 2 |" in line(found)


def test_two_of_theirs_that_are_no_faster_than_one_do_not_raise_the_ratio(row):
    found = measure(row, Steady({TWO: 8}), Steady({ALONE: 2, THREADS: 1, TWO: 1}))
    assert found["ratio"] == found["ratio_to_two"] == 4


def test_what_one_thread_does_alone_is_compared_alone(row):
    found = measure(replace(row, mode=ALONE), Steady({ALONE: 6}), Steady({ALONE: 2}))
    assert (found["ratio"], found["modes"]) == (3, [ALONE, ALONE])


def test_results_that_differ_end_the_run_with_both(row):
    assert agreement(row, Rate(1, 2.00001, 7), Rate(1, 2.0, 8)) == {"difference": pytest.approx(5e-6), "nfe": [7, 8]}
    for wrong in (2.1, float("nan")):
        with pytest.raises(SystemExit, match=f"sort; against others: ours is {wrong}, theirs 2, not the same"):
            agreement(row, Rate(1, wrong, None), Rate(1, 2.0, None))


def test_two_processes_do_the_work_at_once_and_their_amounts_add_up():
    with Side(Path(sys.executable), "bench.growing") as side:
        alone, both = (side.do(SMALL, mode) for mode in (ALONE, TWO))
    assert alone.rate > 0
    assert both.rate > 0


def test_a_process_that_fails_is_named_with_its_work():
    with Process(Path(sys.executable), "bench.growing") as process:
        for _ in range(2):  # the second time its pipe is broken
            process.ask(("nothing", {}), 1)
            with pytest.raises(SystemExit, match=r"bench.growing ended at nothing \{\}"):
                process.answer(("nothing", {}))


def test_our_side_does_what_it_counts():
    assert training("otcfm", seeds=2, steps=3, batch=8, rounds=2)().amount == 12
    done = plans(30, 2, 2)()
    assert done.amount == 60
    assert done.found > 0


def test_every_method_is_measured_against_both_ways_to_draw_points():
    rows = list(trainings())
    assert [row.theirs[1]["data"] for row in rows] == ["library", "stored"] * 3
    assert all(row.ours[1]["data"] == row.theirs[1]["data"] for row in rows)
    assert all(row.ours[1]["batch"] == row.theirs[1]["batch"] for row in rows)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_the_exponent_is_that_of_the_larger_sizes(power):
    sizes = [1, 10, 100, 1000]
    assert costs.exponent(sizes, [7, 7, *(size**power for size in sizes[2:])]) == pytest.approx(power)
    assert costs.exponent(sizes[:3], [size**power for size in sizes[:3]]) == pytest.approx(power)


@pytest.mark.parametrize("growth", costs.GROWTHS, ids=lambda growth: f"{growth.work}, {growth.option}")
def test_every_growing_work_runs_at_its_smallest_size(growth):
    work = getattr(growing, growth.call)(**dict(growth.fixed), **{growth.option: growth.sizes[0]})
    assert work().amount > 0


def test_time_and_memory_of_a_growing_work_are_measured():
    (growth,) = (growth for growth in costs.GROWTHS if "784" in growth.work)
    seconds, memory = costs.measure(growth, 2000)
    assert seconds > 0
    assert memory > 2000**2 * 8 / 2**20  # MiB, of a matrix of costs


def test_the_project_of_many_rounds_is_one_that_may_run(monkeypatch, tmp_path):
    (tmp_path / "params.yaml").write_text(json.dumps(costs.parameters(3)))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    write_grid()
    check.main([])
