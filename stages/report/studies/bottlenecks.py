"""Bottlenecks: the chain of bounds down to the entropy, and what rate buys in distortion."""

from html import escape
from itertools import pairwise
from typing import Any

from rectiflow.statistics import estimate
from stages.report.evidence import Evidence, finding, values
from stages.report.figures import COLOURS, panels, uri
from stages.report.html import figure, note, table
from stages.report.printing import shown
from stages.shared.measures import MEASURES
from stages.shared.studies import Study

CHAIN = ("elbo", "iw_bound", "nll_exact", "elbo_floor")  # each at most the one before it
OTHERS = ("rate", "distortion", "codes_used")
SLACK = 0.01  # nats by which a bound may lie below what it bounds, as draws of z scatter
BELOW = 0.05  # those that test points may leave below the entropy, as a mean over them scatters


def bottlenecks(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding and table, and the figure of rate and distortion."""
    parts = [part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)]
    caption = "Distortion against rate, both in nats; bars are 95 % intervals. Lines of slope -1 have the same bound."
    return [*parts, figure(rates(study, evidence), caption)]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """Whether the chain holds for every seed, how the rates lie, and all numbers."""
    there = [method for method in study.methods if values(evidence, "elbo", dataset, method, 0)]
    broken = [f"{method} (seed {k})" for method in there for k in breaks(evidence, dataset, method)]
    held = "the chain of bounds holds in every run" if not broken else f"the chain of bounds breaks for {', '.join(broken)}"
    names = [name for name in (*CHAIN, *OTHERS) if any(values(evidence, name, dataset, m, 0) for m in there)]
    rows = [[escape(m), *(shown(values(evidence, name, dataset, m, 0)) for name in names)] for m in there]
    return [
        finding(dataset, f"{held}; {order(evidence, dataset, there)}."),
        table(["model", *(MEASURES[name].title for name in names)], rows),
        note("The negative ELBO is at least the importance-weighted bound, that the likelihood, that the entropy."),
    ]


def breaks(evidence: Evidence, dataset: str, method: str) -> list[int]:
    """The places of the seeds whose chain does not hold."""
    columns = {name: of for name in CHAIN if (of := values(evidence, name, dataset, method, 0))}
    broken = set()
    for above, below in pairwise(columns):
        slack = BELOW if below == CHAIN[-1] else SLACK
        gaps = zip(columns[above], columns[below], strict=True)
        broken |= {k for k, (a, b) in enumerate(gaps) if b > a + slack}
    return sorted(broken)


def order(evidence: Evidence, dataset: str, methods: list[str]) -> str:
    """The methods by their mean rates."""
    means = {method: estimate(values(evidence, "rate", dataset, method, 0)).mean for method in methods}
    found = sorted(means, key=lambda method: means[method])
    return "by rate, in nats: " + ", ".join(f"{method} {means[method]:.2f}" for method in found)


def rates(study: Study, evidence: Evidence) -> str:
    """A panel for each data set, a point for each method."""
    drawn, axes = panels(len(study.datasets))
    for ax, dataset in zip(axes, study.datasets, strict=False):
        for k, method in enumerate(study.methods):
            found = [values(evidence, name, dataset, method, 0) for name in ("rate", "distortion")]
            if all(found):
                x, y = map(estimate, found)
                style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "marker": "oDsv^P"[k % 6]}
                ax.errorbar(x.mean, y.mean, y.half, x.half, ls="", ms=4, capsize=2, label=method, **style)
        ax.set(title=dataset, xlabel=MEASURES["rate"].axis, ylabel=MEASURES["distortion"].axis)
        ax.legend(fontsize=7)
    return uri(drawn, "svg")
