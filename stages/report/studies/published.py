"""Our numbers beside published ones: the order of the methods, and what is known of the differences."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from rectiflow.statistics import estimate, holm, p_value, paired
from stages.report.evidence import Evidence, finding, values
from stages.report.figures import COLOURS, GREY, panels, uri
from stages.report.html import figure, note, table
from stages.report.printing import plain, shown
from stages.shared.measures import MEASURES, shown_in
from stages.shared.studies import Published, Study


class Pair(NamedTuple):
    """One flow's number: ours seed by seed, none where the flow was not trained; theirs as mean and deviation (NaN where
    none is given); and the floor of ours, for a distance that has one.
    """

    label: str
    ours: list[float]
    mean: float
    deviation: float
    floor: Sequence[float] = ()


class Order(NamedTuple):
    """How many pairs of flows have a published order, stand in it here, are separated by our seeds, are both; and how many
    have none, their published numbers being equal.
    """

    pairs: int
    same: int
    separated: int
    separated_same: int
    equal: int = 0


def label(row: Published) -> str:
    return f"{row.method} round {row.round}" if row.round else row.method


def beside(study: Study, evidence: Evidence, dataset: str, metric: str) -> list[Pair]:
    """All flows of a data set whose number is published, in the order given."""
    of = MEASURES[metric]

    def pair(row: Published) -> Pair:
        mean, deviation = (row.values[metric] + [math.nan])[:2]
        flow = (dataset, row.method, row.round)
        floor = values(evidence, of.floor, *flow) if of.floor else ()
        return Pair(label(row), values(evidence, metric, *flow), mean, deviation, floor)

    return [pair(row) for row in study.figures if row.dataset == dataset and metric in row.values]


def order(pairs: Sequence[Pair]) -> Order:
    """Two by two, by means; what the seeds separate by paired t tests with Holm's correction."""
    both = list(combinations(pairs, 2))
    ordered = [(a, b) for a, b in both if a.mean != b.mean]
    gaps = [paired(a.ours, b.ours) for a, b in ordered]
    kept = holm([p_value(gap) if gap.n > 1 else 1.0 for gap in gaps])
    same = [gap.mean * (a.mean - b.mean) > 0 for gap, (a, b) in zip(gaps, ordered, strict=True)]
    both_hold = sum(s and bool(k) for s, k in zip(same, kept, strict=True))
    return Order(len(ordered), sum(same), int(sum(kept)), both_hold, len(both) - len(ordered))


def ranked(names: Sequence[tuple[float, str]]) -> str:
    """From the smallest; what is equal is said to be."""
    ordered = sorted(names)
    signs = [" = " if a == b else " < " for (a, _), (b, _) in pairwise(ordered)]
    return "".join(name + sign for (_, name), sign in zip(ordered, [*signs, ""], strict=True))


def told(pairs: Sequence[Pair], floor: float | None) -> str:
    """Both orders, how far they agree, and which published numbers are below our floor."""
    measured = [pair for pair in pairs if pair.ours]
    missing = [pair.label for pair in pairs if not pair.ours]
    said = ""
    if measured:
        found = order(measured)
        said = (
            f"ours {ranked([(estimate(pair.ours).mean, pair.label) for pair in measured])}; "
            f"theirs {ranked([(pair.mean, pair.label) for pair in measured])}."
        )
        if found.pairs:
            said += (
                f" {found.same} of {found.pairs} pairs stand in their order; our seeds separate {found.separated}, "
                f"{found.separated_same} of them in their order."
            )
        if found.equal:
            said += f" Their numbers of {found.equal} pair{'s' * (found.equal != 1)} are equal and claim no order."
    if missing:
        said += f" Not trained here, as an earlier round was the last: {', '.join(missing)}."
    below = [pair.label for pair in pairs if floor is not None and pair.mean < floor]
    if below:
        said += (
            f" Below {floor:.3f}, the floor here, which the target itself has on average, lie their numbers of "
            f"{', '.join(below)}: draws from the target itself would have more here, so their data, number of points or "
            f"measure may differ from ours."
        )
    return said.strip()


def published(study: Study, evidence: Evidence) -> list[str]:
    """Our numbers beside published ones, metric by metric."""
    parts, drawn = [], {}
    for metric in shown_in("published"):
        title, known = MEASURES[metric].title, evidence.floors_of(metric)
        rows, floors = [], ["floor"] if known else []
        for dataset in study.datasets:
            pairs = beside(study, evidence, dataset, metric)
            if not pairs:
                continue
            parts.append(finding(f"{title}, {dataset}", told(pairs, known.get(dataset))))
            drawn[metric, dataset] = [pair for pair in pairs if pair.ours]
            rows += [row(dataset, pair, [shown(pair.floor) for _ in floors]) for pair in pairs]
        if rows:
            parts.append(table(["data", "flow", f"{title}, ours", *floors, f"{title}, theirs", "ours / theirs"], rows))
    drawn = {key: pairs for key, pairs in drawn.items() if pairs}
    if not drawn:
        return [*parts, note(f"Nothing of {escape(study.source)} was measured here.")]
    caption = (
        f"Ours (filled; means and 95 % intervals) beside theirs (open; means, with deviations where they are given) from "
        f"{study.source}. Grey lines are the floors in our geometry."
    )
    parts.append(figure(side_by_side(drawn, evidence), caption))
    seeds = max(len(pair.ours) for pairs in drawn.values() for pair in pairs)
    said = (
        f"Ours: means and 95 % intervals over {seeds} seeds. Theirs: {study.source}. The interval of a ratio is that of our "
        f"seeds alone: their mean is taken as it is printed. {study.note}"
    )
    return [*parts, note(escape(said))]


def row(dataset: str, pair: Pair, known: Sequence[str]) -> list[str]:
    theirs = f"{pair.mean:.3f}" + ("" if math.isnan(pair.deviation) else f" (sd {pair.deviation:.3f})")
    ours = shown(pair.ours) or "not trained"
    ratio = plain(estimate([value / pair.mean for value in pair.ours])) if pair.ours else ""
    return [escape(dataset), escape(pair.label), ours, *known, theirs, ratio]


def side_by_side(drawn: Mapping[tuple[str, str], Sequence[Pair]], evidence: Evidence) -> str:
    """Ours and theirs, a panel for each metric and data set, a line for each flow."""
    figure, axes = panels(len(drawn))
    for ax, ((metric, dataset), pairs) in zip(axes, drawn.items(), strict=False):
        found, places = [estimate(pair.ours) for pair in pairs], np.arange(len(pairs))
        style: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "ms": 4, "capsize": 2, "lw": 0, "elinewidth": 0.9}
        ax.errorbar([e.mean for e in found], places, xerr=[e.half for e in found], label="ours", **style)
        # A deviation wider than the mean would reach below zero, which the axis does not have.
        deviations = [[min(np.nan_to_num(p.deviation), 0.95 * p.mean) for p in pairs], [p.deviation for p in pairs]]
        style |= {"color": COLOURS[1], "mfc": "white"}
        ax.errorbar([p.mean for p in pairs], places + 0.25, xerr=np.nan_to_num(deviations), label="theirs", **style)
        if (floor := evidence.floors_of(metric).get(dataset)) is not None:
            ax.axvline(floor, color=GREY, lw=1, zorder=0)
        labels = [pair.label for pair in pairs]
        ax.set(title=dataset, xscale="log", xlabel=MEASURES[metric].axis, yticks=places, yticklabels=labels)
        ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter())
        ax.invert_yaxis()
        ax.legend(fontsize=7)
    return uri(figure, "svg")
