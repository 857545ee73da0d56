"""What a run page shows of an experiment: its numbers with intervals, the difference to its baseline, pictures."""

import base64
from pathlib import Path

from prefect.artifacts import create_image_artifact, create_markdown_artifact

from flows.compare import difference_markdown
from flows.revisions.commits import Revision, measured
from rectiflow.statistics import Estimate, estimate
from stages.report.results import HEADLINES

NAMES = {
    "w2": "W2", "w2_1step": "W2, one step", "w2_floor": "W2 floor", "straightness": "straightness S",
    "chord_deviation": "chord deviation", "npe": "NPE",
}  # fmt: skip


def publish(project: Path, name: str, run: Revision, baseline: Revision | None) -> None:
    """Put an experiment's results on its run page."""
    seeds = run.results.seed.nunique()
    note = f"Means over {seeds} seeds ± half of the 95 % interval." if seeds > 1 else "One seed: no interval."
    create_markdown_artifact(f"{table(run)}\n\n{note}\n\n{fetch(name)}", "metrics", "The experiment's numbers")
    if baseline:
        said = difference_markdown(
            baseline.results, run.results, (baseline.steps, run.steps), names=(baseline.name, run.name)
        )
        create_markdown_artifact(said, "difference", f"Against {baseline.name}, paired by seed")
    picture = (project / "reports/result.png").read_bytes()
    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    create_image_artifact(source, "figure", "W2 against function evaluations, and the paths of each round")


def fetch(name: str) -> str:
    """How to get at the results."""
    return (
        f"In your project: `dvc exp apply {name}` brings parameters, numbers and the page `reports/index.html` into the "
        f"working tree; `python -m flows.compare HEAD {name}` compares; `dvc exp remove {name}` forgets it."
    )


def table(run: Revision) -> str:
    """One row a flow, one column a headline number."""
    rows = measured(run.results, run.steps, HEADLINES)
    lines = ["| flow | " + " | ".join(NAMES[name] for name in HEADLINES) + " |", "| --- |" + " ---: |" * len(HEADLINES)]
    for (dataset, method, k), flow in rows.groupby(["dataset", "method", "round"], sort=False):
        values = {metric: estimate(part.value.tolist()) for metric, part in flow.groupby("metric")}
        lines.append(f"| {dataset} {method}, round {k} | " + " | ".join(cell(values.get(name)) for name in HEADLINES) + " |")
    return "\n".join(lines)


def cell(value: Estimate | None) -> str:
    if value is None:
        return ""
    return f"{value.mean:.4g}" if value.n == 1 else f"{value.mean:.4g} ± {value.half:.2g}"
