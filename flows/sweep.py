"""A grid over any parameters: one experiment for each point, side by side, and one table and one page at the end.

`python -m flows.sweep 'training.lr=[0.004, 0.012]' 'methods=[icfm, otcfm]' 'rounds=[0, 1]'`
"""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.states import Completed, Failed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.experiment import Methods, Names, Overrides, Revision, Rounds, Seeds, Workers, experiment, run_name
from flows.revisions import artifacts
from flows.revisions import commits as revisions
from flows.revisions.coordinates import coordinates
from flows.running.commands import kill_all
from flows.running.home import wait_for_server
from flows.running.slots import SHARED, Slots
from stages.report.browser.lines import SCRIPT as LINES
from stages.report.html import document, note, section, table
from stages.shared.files import write_text
from stages.shared.params import Refused

Axes = Annotated[
    list[Annotated[str, Field(pattern=r"^[^=\s]+=\s*\[.*\]\s*$")]],
    Field(
        title="Axes",
        description="KEY=[VALUE, VALUE, ...]: a key of params.yaml, or datasets, methods, rounds. Every combination is run.",
    ),
]
FORM = ("datasets", "methods", "rounds")  # axes that are fields of the experiment's form, not keys of params.yaml
MOST = 200
OUT = Path("reports/sweep.html")
THREADS: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=16)  # most of them wait for slots


def axis(text: str) -> tuple[str, list[Any]]:
    """`training.lr=[0.004, 0.012]` as key and values. Raises Refused for anything else."""
    key, _, value = text.partition("=")
    try:
        values = YAML(typ="safe").load(value)
    except YAMLError:
        values = None
    if not key.strip() or not isinstance(values, list) or not values:
        raise Refused(f"axes: {text!r} should be KEY=[VALUE, VALUE, ...], for example training.lr=[0.004, 0.012]")
    return key.strip(), values


def points(axes: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of the axes' values. Raises Refused for an axis given twice or too many combinations."""
    parsed = [axis(text) for text in axes]
    keys = [key for key, _ in parsed]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise Refused(f"axes: {twice!r} is given twice")
    found = [dict(zip(keys, values, strict=True)) for values in itertools.product(*(values for _, values in parsed))]
    if len(found) > MOST:
        raise Refused(f"axes: {len(found)} combinations are more than {MOST}; leave some values out")
    return found


def form(point: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment's parameters at a point: what was given, and the point's values over it."""
    changes = {**given, "overrides": list(given["overrides"])}
    for key, value in point.items():
        if key == "rounds":
            changes[key] = value
        elif key in FORM:
            changes[key] = value if isinstance(value, list) else [value]
        else:
            changes["overrides"].append(f"{key}={json.dumps(value)}")
    return changes


@task(name="experiment", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run(name: str, parameters: dict[str, Any]) -> State:
    """One point, as a flow run of its own."""
    state = experiment.with_options(flow_run_name=name)(**parameters, return_state=True)
    return Completed(message=state.message) if state.is_completed() else Failed(message=state.message or state.name)


@flow(name="sweep", persist_result=False, task_runner=THREADS)
def sweep(
    axes: Axes,
    revision: Revision = "HEAD",
    datasets: Names = [],  # noqa: B006  a form's default; nothing changes it
    methods: Methods = [],  # noqa: B006
    rounds: Rounds = None,
    seeds: Seeds = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    workers: Workers = 2,
) -> State:
    """Run every combination of the axes as an experiment of its own, and gather one table."""
    given = {"datasets": datasets, "methods": methods, "rounds": rounds, "seeds": seeds, "overrides": overrides}
    try:
        grid = points(axes)
    except Refused as error:
        return Failed(message=str(error))
    SHARED.set(Slots(workers))
    named = {f"{run_name()}-{k}": point for k, point in enumerate(grid, 1)}
    try:
        futures = {name: run.submit(name, {"revision": revision, **form(point, given)}) for name, point in named.items()}
        wait(list(futures.values()))
    except BaseException:  # cancelled: the experiments end with their commands
        kill_all()
        raise
    done = {name: point for name, point in named.items() if futures[name].state.is_completed()}
    said = "No experiment was completed."
    if done:
        head, runs = gathered(done)
        said = artifacts.table(runs, head)
        write_text(OUT, page(head, runs))
    create_markdown_artifact(said, "sweep", f"{len(done)} of {len(named)} experiments")
    print(said)
    failed = {name: futures[name].state.message for name in named if name not in done}
    if failed:
        return Failed(message="; ".join(f"{name}: {message}" for name, message in failed.items()))
    return Completed(message=f"{len(done)} experiments saved: {', '.join(done)}")


Runs = list[tuple[list[str], revisions.Revision]]  # the cells in front, and the experiment


def gathered(named: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], Runs]:
    """Every experiment with its name and its point, and the titles of these."""
    keys = list(dict.fromkeys(key for point in named.values() for key in point))
    said = {name: [json.dumps(point[key]).replace('"', "") for key in keys] for name, point in named.items()}
    return ["experiment", *keys], [([name, *cells], revisions.revision(name)) for name, cells in said.items()]


def page(head: Sequence[str], runs: Runs) -> str:
    """The experiments as lines over the axes and their numbers, and the table."""
    titles, *rows = artifacts.rows(runs, head)
    results = {run.name: run.results for _, run in runs}
    parameters = {run.name: dict(zip(head[1:], cells[1:], strict=True)) for cells, run in runs}
    cells = [[escape(cell) for cell in row] for row in rows]
    said = note("Means over seeds ± half of the 95 % interval.")
    sections = [
        *coordinates(parameters, results, artifacts.headlines(pd.concat(list(results.values())))),
        section("numbers", "Every model of every experiment", said, table(titles, cells)),
    ]
    return document("rectiflow sweep", f"{len(runs)} experiments", sections, scripts=[LINES])


def main(argv: list[str] | None = None, prog: str = "python -m flows.sweep") -> int:
    """What the words of a command line ask for; the exit code."""
    parser = argparse.ArgumentParser(prog, description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("axes", nargs="*", metavar="KEY=[VALUE, ...]", help="none: a single experiment")
    parser.add_argument("--revision", default="HEAD", help="the commit to start from (default: %(default)s)")
    parser.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="a key for all of them")
    parser.add_argument("--dataset", action="append", default=[], help="only this data set; may be repeated")
    parser.add_argument("--method", action="append", default=[], help="this method; may be repeated")
    parser.add_argument("--rounds", type=int, help="reflow rounds of every flow")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2, help="stages at once (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        wait_for_server()
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    state = sweep(
        args.axes, args.revision, args.dataset, args.method, args.rounds, [], args.set, args.workers, return_state=True
    )
    print(("" if state.is_completed() else "error: ") + (state.message or state.name or ""), file=sys.stderr)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
