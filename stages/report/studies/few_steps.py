"""W2 of methods and their rounds at few evaluations, whatever makes these: one pass, jumps, or steps of Euler's."""

from collections.abc import Callable, Sequence

from rectiflow.statistics import estimate
from stages.report.evidence import Evidence, at_nfe
from stages.report.figures import COLOURS, levels, panels, uri
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
    """A panel for each data set, a line for each row."""
    drawn, axes = panels(len(study.datasets))
    for ax, dataset in zip(axes, study.datasets, strict=False):
        for k, row in enumerate(rows(study, evidence, dataset)):
            found = {n: estimate(each) for n in steps if (each := of(evidence, dataset, row, n))}
            means, halves = ([getattr(each, part) for each in found.values()] for part in ("mean", "half"))
            colour = COLOURS[k % len(COLOURS)]
            ax.errorbar(list(found), means, halves, marker="o", ms=3, capsize=2, color=colour, label=label(row), lw=1.2)
        levels(ax, evidence.floors[dataset])
        ax.set(title=dataset, xscale="log", yscale="log", xlabel="function evaluations", ylabel=MEASURES["w2"].axis)
        ax.legend(fontsize=7)
    return uri(drawn, "svg")
