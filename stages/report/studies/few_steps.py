"""W2 of methods and their rounds at few evaluations, whatever makes these: one pass, jumps, or steps of Euler's."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.ticker import NullLocator

from rectiflow.statistics import estimate
from stages.report.evidence import Evidence, at_nfe
from stages.report.figures import levels, line_style, marked, panels, uri
from stages.shared.measures import MEASURES
from stages.shared.studies import Study

STEPS = (1, 2, 4, 8, 50)
SOLVERS = ("once", "jumps", "jumps(renoise)", "euler")  # the first by which so many evaluations were made
Row = tuple[str, int]  # method and round


def rows(study: Study, evidence: Evidence, dataset: str) -> list[Row]:
    """The study's methods in all their rounds on a data set."""
    mine = evidence.results[evidence.results.dataset == dataset]
    mine = mine if study.rounds is None else mine[mine["round"] <= study.rounds]
    return [(method, k) for method in study.methods for k in sorted(set(mine["round"][mine.method == method].tolist()))]


def w2(evidence: Evidence, dataset: str, row: Row, steps: int, solvers: Sequence[str] = SOLVERS) -> list[float]:
    """W2 of a row at so many evaluations, seed by seed, by the first of some solvers that made them."""
    found = (at_nfe(evidence, dataset, *row, steps, solver) for solver in solvers)
    return next((each for each in found if each), [])


def label(row: Row) -> str:
    return row[0] if not row[1] else f"{row[0]}, round {row[1]}"


def curves(
    study: Study,
    evidence: Evidence,
    steps: Sequence[int] = STEPS,
    of: Callable[[Evidence, str, Row, int], list[float]] = w2,
) -> str:
    """A panel for each data set, a line for each row: a colour and a mark for each method, dashes for later rounds."""
    picture, axes = panels(len(study.datasets))
    legend: dict[str, Any] = {}
    for ax, dataset in zip(axes, study.datasets, strict=False):
        for row in rows(study, evidence, dataset):
            found = {n: estimate(each) for n in steps if (each := of(evidence, dataset, row, n))}
            style = {**line_style(study.methods, *row), **marked(study.methods.index(row[0])), "lw": 1.2}
            means, halves = ([getattr(each, part) for each in found.values()] for part in ("mean", "half"))
            legend[label(row)] = ax.errorbar(list(found), means, halves, ms=3, capsize=2, elinewidth=0.7, **style)
        levels(ax, evidence.floors[dataset])
        ax.set(title=dataset, xscale="log", yscale="log", xlabel="function evaluations", ylabel=MEASURES["w2"].axis)
        ax.set_xticks(steps, [str(n) for n in steps])
        ax.xaxis.set_minor_locator(NullLocator())
    picture.legend(list(legend.values()), list(legend), loc="outside lower center", ncols=4, fontsize=7)
    return uri(picture, "svg")
