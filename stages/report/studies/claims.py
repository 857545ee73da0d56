"""What is commonly said of methods, sentence by sentence, beside what was measured."""

from html import escape

import numpy as np

from rectiflow.statistics import Estimate, paired
from stages.report.evidence import Evidence, values
from stages.report.html import note, table
from stages.report.printing import difference, shown
from stages.report.results import certain
from stages.shared.measures import MEASURES, measure
from stages.shared.studies import Claim, Side, Study

TARGETS = {of.floor for of in MEASURES.values()}
HEADER = ["what is said", "verdict", "data set", "measure", "of it", "of the other", "difference"]


def claims(study: Study, evidence: Evidence) -> list[str]:
    """A row for each claim of a study: what was measured, and whether it holds; nothing where there are none."""
    if not study.claims:
        return []
    found = [both(claim, evidence) for claim in study.claims]
    rows = [row(*of) for of in zip(study.claims, found, verdicts(study.claims, found), strict=True)]
    return [
        note(
            "A claim holds, or is refuted, where a t test of the paired differences over the seeds says so at 5 %, after "
            "Holm's correction for all of the table; what is not shown may be true or not. Spreads are distances from the "
            "seeds' median."
        ),
        table(HEADER, rows),
    ]


def both(claim: Claim, evidence: Evidence) -> tuple[list[float], list[float]]:
    """What was measured of the method and of the other, seed by seed; nothing of either where one is not there."""
    mine, other = (of_side(side, claim.dataset, evidence) for side in claim.sides)
    if not mine or len(mine) != len(other):
        return [], []
    if claim.spread:
        mine, other = (np.abs(np.array(side) - np.median(side)).tolist() for side in (mine, other))
    return mine, other


def of_side(side: Side, dataset: str, evidence: Evidence) -> list[float]:
    """A measure of the reference draws, or of those that a side names."""
    if side.solver is None:
        return values(evidence, side.measure, dataset, side.method, side.round)
    rows = evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.method == side.method) & (rows["round"] == side.round)]
    rows = rows[(rows.metric == measure(side.measure).metric) & (rows.solver == side.solver)]
    rows = rows if side.nfe is None else rows[rows.nfe == side.nfe]
    if rows.seed.duplicated().any():  # several draws, of which none was named
        return []
    return rows.sort_values("seed", kind="stable").value.tolist()


def verdicts(of: list[Claim], found: list[tuple[list[float], list[float]]]) -> list[str]:
    """Whether the seeds say that each claim holds."""
    gaps = [paired(*each) if each[0] else None for each in found]
    kept = iter(certain([gap for gap in gaps if gap]))
    return [verdict(claim, gap, next(kept)) if gap else "not measured" for claim, gap in zip(of, gaps, strict=True)]


def verdict(claim: Claim, gap: Estimate, shows: bool) -> str:
    """What a difference says of a claim, and whether the seeds show it."""
    if not shows:
        return "not shown"
    return "holds" if (gap.mean < 0) == (claim.is_ == "smaller") else "refuted"


def row(claim: Claim, found: tuple[list[float], list[float]], said: str) -> list[str]:
    """A claim as a row of the table."""
    titles = dict.fromkeys(measure(side.measure).title for side in claim.sides if side.measure not in TARGETS)
    what = ("spread of " if claim.spread else "") + " against ".join(titles)
    against = " against ".join(map(called, claim.sides))
    cells = [*map(shown, found), difference(*found)] if found[0] else [""] * 3
    return [
        f"{escape(claim.said)} <span class='half'>({escape(against)})</span>", f"<b>{said}</b>", escape(claim.dataset),
        escape(what), *cells,
    ]  # fmt: skip


def called(side: Side) -> str:
    """What is compared: the target itself where the measure is a floor or ceiling."""
    if side.measure in TARGETS:
        return "the target itself"
    steps = f", {side.nfe:g} evaluations" if side.nfe else ""
    return side.method + f", round {side.round}" * (side.round > 0) + (f" by {side.solver}" if side.solver else "") + steps
