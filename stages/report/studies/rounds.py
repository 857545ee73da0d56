"""What rectification buys, round by round, and when to stop."""

from html import escape

import pandas as pd

from rectiflow.statistics import Estimate, estimate, improves, paired
from stages.report.evidence import Evidence, finding, values
from stages.report.figures import errorbars, line_style, over_rounds, panels, uri
from stages.report.html import figure, note, table
from stages.report.printing import difference, plain, shown
from stages.report.results import by_flow, evaluations, title
from stages.shared.measures import MEASURES, measure
from stages.shared.studies import Study

GAINS = ("straightness", "w2_1step")  # what a round should improve; see the stop rule of `stages.rectify`


def rounds(study: Study, evidence: Evidence) -> list[str]:
    """Reflow rounds: straightness, one step against many, and when to stop."""
    parts = [part for dataset in study.datasets for part in round_parts(study, evidence, dataset)]
    caption = "Straightness S and W2 of a single step after each round; bars are 95 % intervals."
    return [
        *parts,
        figure(after_rounds(picked(study, evidence.results)), caption),
        note(
            "Changes are to the round before, paired by seed; an arrow marks those below zero beyond their 95 % interval. "
            "Where neither has one, a further round gains nothing that these seeds can see: that is the stop rule of "
            "<code>until</code>. It asks whether a gain is real, not whether it is large."
        ),
    ]


def picked(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.dataset.isin(study.datasets) & rows.method.isin(study.methods)]


def last_round(evidence: Evidence, dataset: str, method: str, most: int | None = None) -> int:
    """The last round of a flow, or the last that is asked for."""
    rows = evidence.results
    last = int(rows["round"][(rows.dataset == dataset) & (rows.method == method)].max())
    return last if most is None else min(last, most)


def gains(evidence: Evidence, dataset: str, method: str, k: int) -> dict[str, Estimate]:
    """What round k changes in straightness and one-step W2, paired by seed with the round before."""
    now, before = ([values(evidence, name, dataset, method, r) for name in GAINS] for r in (k, k - 1))
    return {name: paired(a, b) for name, a, b in zip(GAINS, now, before, strict=True)}


def gained(changes: dict[str, Estimate]) -> dict[str, bool]:
    """Which changes are for the better beyond their interval."""
    return {name: improves(gap, measure(name).better) for name, gap in changes.items()}


def changes(evidence: Evidence, dataset: str, method: str, k: int) -> list[str]:
    """The same as cells, with an arrow where it is for the better."""
    better, arrows = gained(gains(evidence, dataset, method, k)), {"smaller": " ↓", "larger": " ↑"}
    now, before = ([values(evidence, name, dataset, method, r) for name in GAINS] for r in (k, k - 1))
    gaps = zip(GAINS, map(difference, now, before), strict=True)
    return [gap + arrows[measure(name).better] * better[name] for name, gap in gaps]


def ends_after(evidence: Evidence, dataset: str, method: str) -> int:
    """The last round that improved straightness or one-step W2 beyond the interval, counted from the first without a gap."""
    k, last = 0, last_round(evidence, dataset, method)
    while k < last and any(gained(gains(evidence, dataset, method, k + 1)).values()):
        k += 1
    return k


def round_parts(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set, and its table."""
    here = picked(study, evidence.results)
    here = here[here.dataset == dataset]
    many_steps, rows, said = evaluations(here), [], []
    for method in study.methods:
        last = last_round(evidence, dataset, method, study.rounds)
        many = values(evidence, "w2", dataset, method, 0)
        ratios = [
            [a / b for a, b in zip(values(evidence, "w2_1step", dataset, method, k), many, strict=True)]
            for k in range(last + 1)
        ]
        for k, ratio in enumerate(ratios):
            s, one, now = (values(evidence, name, dataset, method, k) for name in (*GAINS, "w2"))
            marks = changes(evidence, dataset, method, k) if k else [""] * len(GAINS)
            cells = [shown(s), marks[0], shown(one), marks[1], shown(now), shown(ratio)]
            rows.append([f"{escape(method)}, round {k}", *cells])
        said.append(
            f"after one round, one step of {method} is at {plain(estimate(ratios[min(1, last)]))} of the W2 that "
            f"{many_steps} had in round 0, and round {ends_after(evidence, dataset, method)} is the last that "
            f"improves S or one-step W2 beyond its interval"
        )
    header = ["flow", *(column for name in GAINS for column in (measure(name).title, "change")), title(here, "w2")]
    return [finding(dataset, f"{'; '.join(said)}."), table([*header, f"1 step / {many_steps} of round 0"], rows)]


def after_rounds(results: pd.DataFrame) -> str:
    """Straightness and one-step W2 after each round: a row of two panels for each data set."""
    datasets, methods = list(results.dataset.unique()), list(results.method.unique())
    figure, axes = panels(2 * len(datasets))
    drawn = [(dataset, name) for dataset in datasets for name in GAINS]
    found = {name: by_flow(results, name) for name in GAINS}
    for ax, (dataset, name) in zip(axes, drawn, strict=False):
        for method in methods:
            line = {k: value for (d, m, k), value in found[name].items() if (d, m) == (dataset, method)}
            errorbars(ax, list(line), list(line.values()), label=method, **line_style(methods, method, 0))
        of = MEASURES[name]
        ax.set(title=f"{dataset}: {of.title}", yscale="log", ylabel=of.axis)
        over_rounds(ax)
        ax.legend(fontsize=7)
    return uri(figure, "svg")
