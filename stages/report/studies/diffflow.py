"""An adversarial term on a flow's own few-step samples: what it does to few steps, to many, and from seed to seed."""

from html import escape

import numpy as np

from rectiflow.statistics import Estimate, improves, paired
from stages.report.evidence import Evidence, finding
from stages.report.html import figure, note, table
from stages.report.printing import difference, plain, shown
from stages.report.studies.few_steps import STEPS, Row, curves, label, rows, w2
from stages.shared.studies import Study


def diffflow(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding and tables, and the figure of all. The first of the methods is the flow without the term."""
    parts = [part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)]
    said = "W2 against evaluations: jumps of 1, 1/2 and 1/4 of the way, and 50 Euler steps; bars are 95 % intervals."
    return [*parts, figure(curves(study, evidence), said)]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What the seeds say of every row against the first, and how much the rows scatter."""
    base, others = (study.methods[0], 0), [row for row in rows(study, evidence, dataset) if row != (study.methods[0], 0)]
    said = [against(evidence, dataset, row, base) for row in others]
    values = [[escape(label(row)), *(shown(w2(evidence, dataset, row, n)) for n in STEPS)] for row in [base, *others]]
    changes = [[escape(label(row)), *(changed(evidence, dataset, row, base, n) for n in STEPS)] for row in others]
    scatter = [[escape(label(row)), *spreads(evidence, dataset, row)] for row in [base, *others]]
    header = [f"{n} step{'s' * (n > 1)}" for n in STEPS]
    return [
        finding(f"{dataset} (floor {evidence.floors[dataset]:.3f})", f"{'; '.join(said)}."),
        table(["W2 of", *header], values),
        table([f"W2 minus that of {base[0]}", *header], changes),
        note("Deviation over seeds of W2 at so many steps, and of the held-out loss at the end."),
        table(["deviation of", *header, "loss"], scatter),
    ]


def change(evidence: Evidence, dataset: str, row: Row, base: Row, steps: int) -> Estimate | None:
    """W2 of a row minus that of the first, paired by seed; None where one of them is not there."""
    mine, other = (w2(evidence, dataset, each, steps) for each in (row, base))
    return paired(mine, other) if mine and len(mine) == len(other) else None


def changed(evidence: Evidence, dataset: str, row: Row, base: Row, steps: int) -> str:
    """The same as a cell, with that of every seed."""
    mine, other = (w2(evidence, dataset, each, steps) for each in (row, base))
    return difference(mine, other) if mine and len(mine) == len(other) else ""


def against(evidence: Evidence, dataset: str, row: Row, base: Row) -> str:
    """Where a row is better and worse than the first beyond the interval."""
    better: list[str] = []
    worse: list[str] = []
    level: list[str] = []
    for steps in STEPS:
        gap = change(evidence, dataset, row, base, steps)
        if gap is not None:
            of = better if improves(gap) else worse if improves(gap, "larger") else level
            of.append(str(steps))
    words = [(better, "better"), (worse, "worse"), (level, "not told apart")]
    parts = [f"{word} at {', '.join(of)}" for of, word in words if of]
    fifty = change(evidence, dataset, row, base, STEPS[-1])
    return f"{label(row)} against {label(base)} is {', '.join(parts)}" + (
        f" ({plain(fifty)} at {STEPS[-1]})" if fifty else ""
    )


def spreads(evidence: Evidence, dataset: str, row: Row) -> list[str]:
    """The deviation over seeds of W2 at every number of steps, and of the held-out loss."""
    found = [w2(evidence, dataset, row, n) for n in STEPS]
    ends = evidence.table("ends")
    last = ends[(ends.dataset == dataset) & (ends.method == row[0]) & (ends["round"] == row[1])].validation.tolist()
    return [f"{np.std(each, ddof=1):.3f}" if len(each) > 1 else "" for each in [*found, last]]
