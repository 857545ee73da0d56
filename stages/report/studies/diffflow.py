"""An adversarial term on a flow's own few-step samples: what it does to few steps, to many, and from seed to seed."""

from collections.abc import Mapping
from functools import partial
from html import escape

import numpy as np

from rectiflow.statistics import Estimate, paired
from stages.report.evidence import SPENT_HEADER, SPENT_NOTE, Evidence, finding, spent
from stages.report.html import figure, note, table
from stages.report.printing import difference, plain, shown
from stages.report.results import certain
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
    base = (study.methods[0], 0)
    every = {row: [drawn(study, evidence, dataset, row, n) for n in STEPS] for row in rows(study, evidence, dataset)}
    first = every.get(base, [[]] * len(STEPS))
    others = {row: gaps for row, found in every.items() if row != base and any(gaps := gaps_to(first, found))}
    if not others:
        return [finding(dataset, f"nothing was drawn beside {base[0]}")]
    values = [[escape(label(row)), *map(shown, found), spent(evidence, dataset, *row)[1]] for row, found in every.items()]
    changes = [
        [escape(label(row)), *(difference(a, b) if gap else "" for a, b, gap in zip(every[row], first, gaps, strict=True))]
        for row, gaps in others.items()
    ]
    scatter = [[escape(label(row)), *spreads(evidence, dataset, row, found)] for row, found in every.items()]
    header = [f"{n} step{'s' * (n > 1)}" for n in STEPS]
    return [
        finding(f"{dataset} (floor {evidence.floors[dataset]:.3f})", f"{'; '.join(against(others, label(base)))}."),
        table(["W2 of", *header, SPENT_HEADER[1]], values),
        note(f"{escape(base[0])} is drawn from by steps of Euler's, as without the term no jump is trained. {SPENT_NOTE}"),
        table([f"W2 minus that of {base[0]}", *header], changes),
        note("Deviation over seeds of W2 at so many steps, and of the held-out loss at the end."),
        table(["deviation of", *header, "loss"], scatter),
    ]


def drawn(study: Study, evidence: Evidence, dataset: str, row: Row, steps: int) -> list[float]:
    """W2 of a row at so many evaluations, seed by seed; of the first by steps of Euler's, as without the term no jump but
    that of length 0 is trained.
    """
    return w2(evidence, dataset, row, steps, ("euler",) if row[0] == study.methods[0] else SOLVERS)


def gaps_to(first: list[list[float]], mine: list[list[float]]) -> list[Estimate | None]:
    """W2 minus that of the first at each of STEPS, paired by seed; None where one of them is not there."""
    return [paired(a, b) if a and len(a) == len(b) else None for a, b in zip(mine, first, strict=True)]


def against(others: Mapping[Row, list[Estimate | None]], base: str) -> list[str]:
    """At which of STEPS each row is better and worse than the first: t tests, Holm-corrected for all of them."""
    shown_by_seeds = iter(certain([gap for gaps in others.values() for gap in gaps if gap]))
    said = []
    for row, gaps in others.items():
        found: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
        for steps, gap in zip(STEPS, gaps, strict=True):
            if gap:
                word = ("better" if gap.mean < 0 else "worse") if next(shown_by_seeds) else "not told apart"
                found[word].append(str(steps))
        words = ", ".join(f"{word} at {', '.join(of)}" for word, of in found.items() if of)
        last = f" ({plain(gaps[-1])} at {STEPS[-1]})" if gaps[-1] else ""
        said.append(f"{label(row)} against {base} is {words}{last}")
    return said


def spreads(evidence: Evidence, dataset: str, row: Row, found: list[list[float]]) -> list[str]:
    """The deviation over seeds of W2 at every number of steps, and of the held-out loss."""
    ends = evidence.table("ends")
    last = ends[(ends.dataset == dataset) & (ends.method == row[0]) & (ends["round"] == row[1])].validation.tolist()
    return [f"{np.std(each, ddof=1):.3f}" if len(each) > 1 else "" for each in [*found, last]]
