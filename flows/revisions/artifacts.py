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


def table(runs: Sequence[tuple[Sequence[str], Revision]], head: Sequence[str] = ()) -> str:
    """One row a model of each run, behind the cells that come with the run, whose titles are `head`; one column a headline
    number that any of them has.
    """
    results = pd.concat([run.results for _, run in runs])
    names = [name for name in shown_in("metrics") if len(select(results, name))]
    titles = [*head, "model", *(title(results, name) for name in names)]
    lines = [titles, ["---"] * (len(head) + 1) + ["---:"] * len(names)]
    for cells, run in runs:
        for (dataset, method, k), model in measured(run.results, names).groupby(FLOW, sort=False):
            values = {metric: estimate(part.value.tolist()) for metric, part in model.groupby("metric")}
            lines.append([*cells, f"{dataset} {method}, round {k}", *(plain(values.get(name)) for name in names)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
