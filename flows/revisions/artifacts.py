"""What a run page shows of an experiment: its numbers with intervals, the difference to its baseline, pictures."""

import base64
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from prefect.artifacts import create_image_artifact, create_markdown_artifact

from flows.compare import difference_markdown
from flows.revisions.commits import Revision, measured
from rectiflow.statistics import estimate
from stages.report.printing import plain
from stages.report.results import FLOW, select, title
from stages.shared.measures import shown_in


def publish(project: Path, name: str, run: Revision, baseline: Revision | None) -> None:
    """Put an experiment's results on its run page."""
    seeds = run.results.seed.nunique()
    note = f"Means over {seeds} seeds ± half of the 95 % interval." if seeds > 1 else "One seed: no interval."
    create_markdown_artifact(f"{table([((), run)])}\n\n{note}\n\n{fetch(name)}", "metrics", "The experiment's numbers")
    if baseline:
        said = difference_markdown(baseline.results, run.results, names=(baseline.name, run.name))
        create_markdown_artifact(said, "difference", f"Against {baseline.name}, paired by seed")
    picture = (project / "reports/result.png").read_bytes()
    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    create_image_artifact(
        source, "figure", "W2 against evaluations and the paths of each round, or the steps of gradient flows"
    )


def fetch(name: str) -> str:
    """How to get at the results."""
    return (
        f"In your project: `dvc exp apply {name}` brings parameters, numbers and the page `reports/index.html` into the "
        f"working tree; `python -m flows.compare HEAD {name}` compares; `dvc exp remove {name}` forgets it."
    )


def rows(runs: Sequence[tuple[Sequence[str], Revision]], head: Sequence[str] = ()) -> list[list[str]]:
    """One row a model of each run, behind the cells that come with the run; one column a headline number that any of them
    has. First the titles, of which `head` are those of the runs' cells.
    """
    results = pd.concat([run.results for _, run in runs])
    names = headlines(results)
    found = [[*head, "model", *(title(results, name) for name in names)]]
    for cells, run in runs:
        for (dataset, method, k), model in measured(run.results, names).groupby(FLOW, sort=False):
            values = {metric: estimate(part.value.tolist()) for metric, part in model.groupby("metric")}
            found.append([*cells, f"{dataset} {method}, round {k}", *(plain(values.get(name)) for name in names)])
    return found


def headlines(results: pd.DataFrame) -> list[str]:
    """The headline numbers that are there."""
    return [name for name in shown_in("metrics") if len(select(results, name))]


def table(runs: Sequence[tuple[Sequence[str], Revision]], head: Sequence[str] = ()) -> str:
    """The same as Markdown."""
    (titles, *lines), numbers = rows(runs, head), len(head) + 1
    rule = ["---"] * numbers + ["---:"] * (len(titles) - numbers)
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rule, *lines))
