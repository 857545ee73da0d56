"""Our numbers beside published ones: the order of the methods, and what is known of the differences."""

from collections.abc import Sequence
from html import escape
from itertools import combinations
from typing import NamedTuple

from rectiflow.statistics import estimate, holm, p_value, paired
from stages import study_figures
from stages.evidence import Evidence, finding, plain, shown, values
from stages.page import figure, table
from stages.settings import Published, Study

TITLES = {"w2": "W2", "npe": "NPE"}


class Pair(NamedTuple):
    """One flow's number: ours seed by seed, theirs as mean and deviation (NaN where none is given)."""

    label: str
    ours: list[float]
    mean: float
    deviation: float


class Order(NamedTuple):
    """How many pairs of flows there are, stand in the published order, are separated by our seeds, are both."""

    pairs: int
    same: int
    separated: int
    separated_same: int


def label(row: Published) -> str:
    return f"{row.method} round {row.round}" if row.round else row.method


def beside(study: Study, evidence: Evidence, dataset: str, metric: str) -> list[Pair]:
    """All flows of a data set whose number is published, in the order given."""
    rows = [row for row in study.figures if row.dataset == dataset and metric in row.values]
    return [
        Pair(
            label(row), values(evidence, metric, dataset, row.method, row.round), *(row.values[metric] + [float("nan")])[:2]
        )
        for row in rows
    ]


def order(pairs: Sequence[Pair]) -> Order:
    """Two by two, by means; what the seeds separate by paired t tests with Holm's correction."""
    both = list(combinations(pairs, 2))
    gaps = [paired(a.ours, b.ours) for a, b in both]
    kept = holm([p_value(gap) if gap.n > 1 else 1.0 for gap in gaps])
    same = [(gap.mean < 0) == (a.mean < b.mean) for gap, (a, b) in zip(gaps, both, strict=True)]
    return Order(len(both), sum(same), int(sum(kept)), sum(s and bool(k) for s, k in zip(same, kept, strict=True)))


def ranked(names: Sequence[tuple[float, str]]) -> str:
    return " < ".join(name for _, name in sorted(names))


def told(pairs: Sequence[Pair], floor: float | None) -> str:
    """Both orders, how far they agree, and whose published numbers this geometry cannot have."""
    found = order(pairs)
    said = (
        f"ours {ranked([(estimate(pair.ours).mean, pair.label) for pair in pairs])}; "
        f"theirs {ranked([(pair.mean, pair.label) for pair in pairs])}. "
        f"{found.same} of {found.pairs} pairs stand in their order; our seeds separate {found.separated}, "
        f"{found.separated_same} of them in their order."
    )
    below = [pair.label for pair in pairs if floor is not None and pair.mean < floor]
    if below:
        said += (
            f" Below {floor:.3f}, what two true samples of this size are apart in this geometry, lie their numbers of "
            f"{', '.join(below)}: their data are spread less than ours."
        )
    return said


def published(study: Study, evidence: Evidence) -> list[str]:
    """Our numbers beside published ones, metric by metric."""
    parts, drawn = [], {}
    for metric, title in TITLES.items():
        rows, floors = [], ["floor"] if metric == "w2" else []
        for dataset in study.datasets:
            pairs = beside(study, evidence, dataset, metric)
            if not pairs:
                continue
            floor = evidence.floors[dataset] if metric == "w2" else None
            drawn[metric, dataset] = pairs
            parts.append(finding(f"{title}, {dataset}", told(pairs, floor)))
            known = [shown(values(evidence, f"w2_{name}", dataset, study.methods[0], 0)) for name in floors]
            rows += [row(dataset, pair, known) for pair in pairs]
        parts.append(table(["data", "flow", f"{title}, ours", *floors, f"{title}, theirs", "ours / theirs"], rows))
    caption = (
        f"Ours (filled; means and 95 % intervals) beside theirs (open; means, with deviations where they are given) from "
        f"{study.source}. Grey lines are the floors of W2 in our geometry."
    )
    parts.append(figure(study_figures.beside(drawn, evidence.floors), caption))
    seeds = max(len(pair.ours) for pairs in drawn.values() for pair in pairs)
    said = f"Ours: means and 95 % intervals over {seeds} seeds. Theirs: {study.source}. {study.note}"
    return [*parts, f'<p class="note">{escape(said)}</p>']


def row(dataset: str, pair: Pair, known: Sequence[str]) -> list[str]:
    theirs = f"{pair.mean:.3f}" + ("" if pair.deviation != pair.deviation else f" (sd {pair.deviation:.3f})")
    ratio = plain(estimate([value / pair.mean for value in pair.ours]))
    return [escape(dataset), escape(pair.label), shown(pair.ours), *known, theirs, ratio]
