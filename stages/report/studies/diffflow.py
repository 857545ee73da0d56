"""An adversarial term on a flow's own few-step samples: what it does to few steps, to many, and from seed to seed."""

from functools import partial
from html import escape

import numpy as np

from rectiflow.statistics import Estimate, improves, paired
from stages.report.evidence import BEFORE, SPENT, Evidence, finding, spent
from stages.report.html import figure, note, table
from stages.report.printing import difference, plain, shown
from stages.report.studies.claims import claims
from stages.report.studies.few_steps import SOLVERS, Row, curves, label, rows, w2
from stages.shared.studies import Study

STEPS = (1, 2, 4, 50)  # those of jumps that the game has seen, and the field's


def diffflow(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding and tables, the figure of all, and the claims. The first of the methods is the flow without
    the term.
    """
    parts = [part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)]
    said = f"W2 against evaluations: jumps, or steps of Euler's ({study.methods[0]}, rounds, 50); bars are 95 % intervals."
    picture = curves(study, evidence, STEPS, partial(drawn, study))
    return [*parts, figure(picture, said), *claims(study, evidence)]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What the seeds say of every row against the first, how much the rows scatter, and what they cost."""
    base, others = (study.methods[0], 0), [row for row in rows(study, evidence, dataset) if row != (study.methods[0], 0)]
    every = {row: [drawn(study, evidence, dataset, row, n) for n in STEPS] for row in [base, *others]}
    said = [against(label(row), every[row], label(base), every[base]) for row in others]
    values = [[escape(label(row)), *map(shown, found), spent(evidence, dataset, *row)[1]] for row, found in every.items()]
    changes = [[escape(label(row)), *map(changed, every[row], every[base])] for row in others]
    scatter = [[escape(label(row)), *spreads(evidence, dataset, row, found)] for row, found in every.items()]
    header = [f"{n} step{'s' * (n > 1)}" for n in STEPS]
    return [
        finding(f"{dataset} (floor {evidence.floors[dataset]:.3f})", f"{'; '.join(said)}."),
        table(["W2 of", *header, SPENT[1]], values),
        note(f"{escape(base[0])} has learned no jump and is drawn from by steps of Euler's. {BEFORE}"),
        table([f"W2 minus that of {base[0]}", *header], changes),
        note("Deviation over seeds of W2 at so many steps, and of the held-out loss at the end."),
        table(["deviation of", *header, "loss"], scatter),
    ]


def drawn(study: Study, evidence: Evidence, dataset: str, row: Row, steps: int) -> list[float]:
    """W2 of a row at so many evaluations, seed by seed; of the first by steps of Euler's, as without the term no jump but
    that of length 0 is trained.
    """
    return w2(evidence, dataset, row, steps, ("euler",) if row[0] == study.methods[0] else SOLVERS)


def change(mine: list[float], other: list[float]) -> Estimate | None:
    """W2 minus another, paired by seed; None where one of them is not there."""
    return paired(mine, other) if mine and len(mine) == len(other) else None


def changed(mine: list[float], other: list[float]) -> str:
    """The same as a cell, with that of every seed."""
    return difference(mine, other) if mine and len(mine) == len(other) else ""


def against(name: str, mine: list[list[float]], base: str, other: list[list[float]]) -> str:
    """At which of STEPS a row is better and worse than the first beyond the interval."""
    better: list[str] = []
    worse: list[str] = []
    level: list[str] = []
    gaps = [change(a, b) for a, b in zip(mine, other, strict=True)]
    for steps, gap in zip(STEPS, gaps, strict=True):
        if gap is not None:
            of = better if improves(gap) else worse if improves(gap, "larger") else level
            of.append(str(steps))
    words = [(better, "better"), (worse, "worse"), (level, "not told apart")]
    parts = [f"{word} at {', '.join(of)}" for of, word in words if of]
    last = gaps[-1]
    return f"{name} against {base} is {', '.join(parts)}" + (f" ({plain(last)} at {STEPS[-1]})" if last else "")


def spreads(evidence: Evidence, dataset: str, row: Row, found: list[list[float]]) -> list[str]:
    """The deviation over seeds of W2 at every number of steps, and of the held-out loss."""
    ends = evidence.table("ends")
    last = ends[(ends.dataset == dataset) & (ends.method == row[0]) & (ends["round"] == row[1])].validation.tolist()
    return [f"{np.std(each, ddof=1):.3f}" if len(each) > 1 else "" for each in [*found, last]]
