"""Ways to one step: W2 after one evaluation over that of the teacher's many, seed by seed."""

from collections.abc import Mapping
from html import escape

import numpy as np

from rectiflow.statistics import estimate
from stages.report.evidence import SPENT_HEADER, SPENT_NOTE, Evidence, finding, spent, values, verdict
from stages.report.figures import COLOURS, panels, uri
from stages.report.html import figure, note, table
from stages.report.printing import plain, shown
from stages.report.results import Values
from stages.report.studies.few_steps import STEPS, Row, curves, label, rows, w2
from stages.shared.studies import Study

WIDE = 3  # ratios beyond which an axis is logarithmic


def one_step(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding and table, and the figure of all. The first of the methods, in round 0, is the teacher."""
    teacher = study.methods[0]
    parts = [part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)]
    return [
        note(
            f"W2 of one evaluation over W2 of the reference draw of {escape(teacher)}, from the same source points to the "
            f"same test points: 1 is one step as good as all of the teacher's. A flow map is drawn from by one jump, a "
            f"field by one step of Euler's; 50 steps are Euler's. A single seed's ratio scatters by about a tenth, as both "
            f"distances are near their floor. {SPENT_NOTE}"
        ),
        *parts,
        figure(ratios(study, evidence), "Ratios by data set; bars are 95 % intervals over seeds, the line is the teacher."),
        figure(curves(study, evidence), "W2 against evaluations: one pass or step, jumps, steps of Euler's."),
    ]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set, and its table."""
    teacher = values(evidence, "w2", dataset, study.methods[0], 0)
    found = over_teacher(study, evidence, dataset)
    if not found:
        return [finding(dataset, "nothing was drawn from in one step")]
    said = f"the teacher's W2 is {plain(estimate(teacher))}; {verdict(named(found), 'ratio')}."
    cells = [
        [escape(label(row)), *(shown(w2(evidence, dataset, row, n)) for n in STEPS), shown(ratio),
         spent(evidence, dataset, *row)[1]]
        for row, ratio in found.items()
    ]  # fmt: skip
    head = ["W2 of", *(f"{n} step{'s' * (n > 1)}" for n in STEPS), "1 step over the teacher's", SPENT_HEADER[1]]
    return [finding(f"{dataset} (floor {evidence.floors[dataset]:.3f})", said), table(head, cells)]


def over_teacher(study: Study, evidence: Evidence, dataset: str) -> dict[Row, list[float]]:
    """The ratio of every method and round that draws in one evaluation, seed by seed."""
    teacher = np.array(values(evidence, "w2", dataset, study.methods[0], 0))
    if not len(teacher):
        return {}
    first = {row: w2(evidence, dataset, row, 1) for row in rows(study, evidence, dataset)}
    return {row: (np.array(of) / teacher).tolist() for row, of in first.items() if len(of) == len(teacher)}


def named(found: Mapping[Row, list[float]]) -> list[Values]:
    """The same by label."""
    return [Values(label(row), of) for row, of in found.items()]


def ratios(study: Study, evidence: Evidence) -> str:
    """A panel for each data set, a bar for each method and round."""
    drawn, axes = panels(len(study.datasets))
    for ax, dataset in zip(axes, study.datasets, strict=False):
        found = named(over_teacher(study, evidence, dataset))
        for k, row in enumerate(found):
            of = estimate(row.values)
            ax.errorbar([of.mean], [k], xerr=[of.half], marker="o", ms=4, capsize=2, color=COLOURS[k % len(COLOURS)])
        ax.axvline(1, color="#545d6b", lw=0.8)
        wide = max((estimate(row.values).mean for row in found), default=1) > WIDE
        ax.set(title=dataset, xscale="log" if wide else "linear", xlabel="W2 of one evaluation over the teacher's")
        ax.set_yticks(range(len(found)), [row.label for row in found], fontsize=7)
        ax.invert_yaxis()
    return uri(drawn, "svg")
