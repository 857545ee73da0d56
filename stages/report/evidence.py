"""What the sections of the report that look into one question tell from, and how they say it."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from rectiflow.statistics import Estimate, estimate
from stages.report.page import number
from stages.report.results import Values, against_first, select


class Evidence(NamedTuple):
    """All there is to tell from: `results` tidy, `nfe` W2 by flow and solver, `floors` by data set, all rows of
    `relations` and `choices` with their `name`; `steps` are those of the reference solve.
    """

    results: pd.DataFrame
    nfe: pd.DataFrame
    floors: dict[str, float]
    relations: pd.DataFrame
    choices: pd.DataFrame
    steps: int


def values(evidence: Evidence, metric: str, dataset: str, method: str, k: int) -> list[float]:
    """A headline number of a flow, seed by seed; empty where it was not measured."""
    return select(evidence.results, evidence.steps, metric, dataset=dataset, method=method, round=k).value.tolist()


def shown(found: Sequence[float]) -> str:
    return number(estimate(found)) if len(found) else ""


def finding(what: str, said: str) -> str:
    """What was found, of what."""
    return f"<p><b>{escape(what)}</b>: {escape(said)}</p>"


def plain(value: Estimate) -> str:
    """A number in a sentence."""
    return number(value).replace('<span class="half">', "").replace("</span>", "")


def verdict(rows: Sequence[Values], what: str) -> str:
    """The smallest of some rows in a sentence, with those the seeds cannot tell from it."""
    ranked = sorted(rows, key=lambda row: estimate(row.values).mean)
    others = against_first(ranked)
    tied, behind = ([label for label, _, holds in others if holds == wanted] for wanted in (False, True))
    said = f"the smallest {what} is that of {ranked[0].label}, {plain(estimate(ranked[0].values))}"
    if not behind:
        return f"{said}; the seeds do not separate it from any other"
    if not tied:
        return f"{said}; the seeds separate it from all others"
    return f"{said}; the seeds separate it from {', '.join(behind)} but not from {', '.join(tied)}"
