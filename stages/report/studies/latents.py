"""Flows of latents: what the bottleneck loses, what the flow loses, and both together."""

from html import escape

from stages.report.evidence import Evidence, finding, values, verdict
from stages.report.html import note, table
from stages.report.printing import shown
from stages.report.results import Values
from stages.shared.measures import MEASURES, measure
from stages.shared.studies import Study

LOSSES = ("w2_decoder", "w2_reconstructed", "w2", "w2_1step")


def latents(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding and table."""
    return [part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """The best method, and all distances beside their floors; methods of the data itself have the last two alone."""
    rounds = range((study.rounds or 0) + 1)
    rows = [(method, k) for method in study.methods for k in rounds if values(evidence, "w2", dataset, method, k)]
    best = verdict([Values(label(*row), values(evidence, "w2", dataset, *row)) for row in rows], measure("w2").title)
    cells = [[escape(label(*row)), *(cell(evidence, name, dataset, *row) for name in LOSSES)] for row in rows]
    return [
        finding(f"{dataset} (floor {evidence.floors[dataset]:.3f})", f"{best}."),
        table(["model", *(f"{MEASURES[name].title} (floor)" for name in LOSSES)], cells),
        note(
            "Reconstructions are what the bottleneck makes of real points, with the decoder's noise where draws have it: "
            "a flow that reached the latents would be as far from the test set as they are on average. How far the draws "
            "are from reconstructions of the test set says what the flow adds. Of next states draws are told the "
            "state and the action before each row of the test set: they may be nearer to it than reconstructions of other "
            "rows, and than the floor."
        ),
    ]


def label(method: str, k: int) -> str:
    return method if not k else f"{method}, round {k}"


def cell(evidence: Evidence, name: str, dataset: str, method: str, k: int) -> str:
    """A measure with its floor; a dash where there is none."""
    if not (found := values(evidence, name, dataset, method, k)):
        return "–"
    floor = values(evidence, measure(name).floor or "", dataset, method, k)
    return f"{shown(found)} ({shown(floor)})"
