"""The next state given state and action: how near models are to its law, and where they lead, step after step."""

from collections.abc import Iterator
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rectiflow.statistics import estimate
from stages.report.evidence import Evidence, finding, values, verdict
from stages.report.figures import COLOURS, GREY, plt, uri
from stages.report.html import figure, note, table
from stages.report.printing import plain, shown
from stages.report.results import Values
from stages.shared.measures import MEASURES, measure
from stages.shared.studies import Study

NAMES = ("given_w2", "rollout_share", "rollout_drift", "rollout_w2")
STRAY = 40  # roll-outs of a phase portrait


class Row(NamedTuple):
    """A model and how it is drawn from: its reference draws, or one step."""

    method: str
    round: int
    one: bool

    @property
    def label(self) -> str:
        return f"{self.method}, round {self.round}{', 1 step' if self.one else ''}"

    def of(self, name: str) -> str:
        """A measure of these draws."""
        return f"{name}_1step" if self.one else name


def transitions(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding, table and pictures."""
    return [
        note(
            "W2 is that of draws and the law of the next state given the condition, the mean over all conditions: of a "
            "system at the same states and actions, of any other data set in parts of the rows that are alike; in the "
            "units of x, which of a system are deviations of a step's noise. Roll-outs draw states one after the other "
            "from the same starts under the same actions. Within the band are those that never leave, in any state or in "
            "the energy, the band that holds 95 % of the system's roll-outs from the same start whole. The energy drift "
            "is how many deviations of the system the late energies are from its mean, on average; with the W2 of late "
            "states it tells of those that stay too close together, which the band does not. The last row is what the "
            "system itself has: by a second sample, and by a roll-out that has no part in the band."
        ),
        *(part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)),
    ]


def rows_of(study: Study, evidence: Evidence, dataset: str) -> list[Row]:
    """All draws that were measured, in the order of the methods."""
    rounds = range((study.rounds or 0) + 1)
    found = [Row(method, k, one) for method in study.methods for k in rounds for one in (False, True)]
    return [row for row in found if any(measured(evidence, dataset, row, name) for name in NAMES)]


def measured(evidence: Evidence, dataset: str, row: Row, name: str) -> list[float]:
    """A measure of a row, seed by seed."""
    return values(evidence, row.of(name), dataset, row.method, row.round)


def ratio(evidence: Evidence, dataset: str, row: Row) -> list[float]:
    """W2 given the condition over the floor beside it, seed by seed; empty where it was not measured."""
    floors = values(evidence, measure("given_w2").floor or "", dataset, row.method, row.round)
    return over(found, floors) if (found := measured(evidence, dataset, row, "given_w2")) else []


def floor(evidence: Evidence, dataset: str, rows: list[Row], name: str) -> list[float]:
    """The floor of a measure beside the first row that has one, seed by seed."""
    of = measure(name).floor or ""
    return next((found for row in rows if (found := values(evidence, of, dataset, row.method, row.round))), [])


def over(top: list[float], bottom: list[float]) -> list[float]:
    """Ratios seed by seed."""
    return [a / b for a, b in zip(top, bottom, strict=True)]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set."""
    rows = rows_of(study, evidence, dataset)
    if not rows:
        return [finding(dataset, "nothing was measured")]
    floors = {name: floor(evidence, dataset, rows, name) for name in NAMES}
    cells = [
        [
            escape(row.label), evaluations(evidence, dataset, row), shown(measured(evidence, dataset, row, "given_w2")),
            shown(ratio(evidence, dataset, row)), *(shown(measured(evidence, dataset, row, name)) for name in NAMES[1:]),
        ]
        for row in rows
    ]  # fmt: skip
    last = ["a second sample", "", shown(floors["given_w2"]), "", *(shown(floors[name]) for name in NAMES[1:])]
    head = ["drawn from", "evaluations a roll-out", MEASURES["given_w2"].title, "over its floor"]
    return [
        finding(dataset, f"{'; '.join(said(study, evidence, dataset, rows))}."),
        table([*head, *(MEASURES[name].title for name in NAMES[1:])], [*cells, last]),
        *pictures(evidence, dataset, rows),
    ]


def evaluations(evidence: Evidence, dataset: str, row: Row) -> str:
    """Those of the model in a whole roll-out."""
    of, rows = measure(row.of("rollout_share")), evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.method == row.method) & (rows["round"] == row.round)]
    rows = rows[(rows.metric == of.metric) & (rows.role == of.role)]
    return "" if rows.empty else f"{rows.nfe.mean():.5g}"


def said(study: Study, evidence: Evidence, dataset: str, rows: list[Row]) -> Iterator[str]:
    """What a round does to one step, and which method is nearest and stays longest."""
    many = [row for row in rows if not row.one and row.round == 0]
    for row in many:
        if of_floor := ratio(evidence, dataset, row):
            yield f"the W2 of {row.method} given the condition is {plain(estimate(of_floor))} of its floor"
    for row in many:
        yield from rectified(evidence, dataset, row)
    for name in ("given_w2", "rollout_share"):
        told = [Values(row.label, measured(evidence, dataset, row, name)) for row in rows if not row.one or row.round]
        if any(row.values for row in told):
            yield verdict(told, MEASURES[name].title, MEASURES[name].better)


def rectified(evidence: Evidence, dataset: str, row: Row) -> Iterator[str]:
    """What a round does to the single steps of a method, of what was measured."""
    single = (row._replace(one=True), row._replace(one=True, round=1))
    reference = measured(evidence, dataset, row, "given_w2")
    found, drifts = ([measured(evidence, dataset, one, name) for one in single] for name in ("given_w2", "rollout_drift"))
    if reference and all(found):
        before, after = (plain(estimate(over(each, reference))) for each in found)
        yield (
            f"one step of {row.method} is at {before} of that of its reference draws before a round of rectification and at "
            f"{after} after it"
        )
    if all(drifts):
        before, after = (plain(estimate(each)) for each in drifts)
        yield (
            f"in single steps the energy of {row.method} drifts by {before} deviations before a round and by {after} "
            f"after it"
        )


# ---- Pictures.


def pictures(evidence: Evidence, dataset: str, rows: list[Row]) -> list[str]:
    """Fans of roll-outs from one start in the system's band, and where roll-outs from many starts are."""
    tracks, bands = (evidence.table(name) for name in ("tracks", "bands"))
    if tracks.empty or not (tracks.dataset == dataset).any():
        return []
    tracks, bands = (of[of.dataset == dataset] for of in (tracks, bands))
    seed = int(tracks.seed.iloc[0])
    panels = {"the system": tracks[tracks.role == "system"]} | {row.label: of_row(tracks, row) for row in rows}
    panels = {name: of for name, of in panels.items() if len(of)}
    names = [name for name in tracks.columns if name.startswith("s_") and tracks[name].notna().all()]
    titles = [*(name.removeprefix("s_") for name in names), "energy"]
    fan = f"{dataset}: roll-outs from one start against steps, in the band that holds 95 % of the system's; seed {seed}."
    plane = " against ".join(titles[1::-1]) if len(names) > 1 else "the next state against the state"
    portrait = f"{dataset}: roll-outs from {STRAY} starts, {plane}; seed {seed}."
    return [
        figure(fans(panels, bands, [*names, "energy"], titles), fan),
        figure(portraits(panels, names, titles), portrait),
    ]


def of_row(tracks: pd.DataFrame, row: Row) -> pd.DataFrame:
    """The roll-outs of a row."""
    mine = (tracks.method == row.method) & (tracks["round"] == row.round)
    return tracks[mine & (tracks.role == ("one_step" if row.one else "reference"))]


def states(tracks: pd.DataFrame, name: str) -> np.ndarray:
    """A number of roll-outs, `(roll-outs, steps)`."""
    steps = int(tracks.step.max())
    found: np.ndarray = tracks[name].to_numpy().reshape(-1, steps)
    return found


def fans(panels: dict[str, pd.DataFrame], bands: pd.DataFrame, names: list[str], titles: list[str]) -> str:
    """A row of panels for each number, a column for each draw; all from the first start."""
    size = (2.3 * len(panels), 1.7 * len(names))
    drawn, axes = plt.subplots(
        len(names), len(panels), figsize=size, squeeze=False, sharex=True, sharey="row", layout="constrained"
    )
    band = bands[(bands.start == 0)].drop_duplicates("step")
    for k, (label, tracks) in enumerate(panels.items()):
        here = tracks[(tracks.start == 0) & (tracks.track > 0)]
        for ax, name, title in zip(axes[:, k], names, titles, strict=True):
            ax.fill_between(band.step, band[f"low_{name}"], band[f"high_{name}"], color=GREY, alpha=0.5, lw=0)
            lines = states(here, name).T
            ax.plot(np.arange(1, len(lines) + 1), lines, lw=0.5, color=COLOURS[0], alpha=0.5)
            low, high = band[f"low_{name}"].min(), band[f"high_{name}"].max()
            ax.set_ylim(low - 0.3 * (high - low), high + 0.3 * (high - low))
            if not k:
                ax.set_ylabel(title)
        axes[0, k].set_title(label, fontsize=8)
    return uri(drawn, "png")


def portraits(panels: dict[str, pd.DataFrame], names: list[str], titles: list[str]) -> str:
    """A panel for each draw: the first two numbers of a state, or the next state against the state where there is one."""
    columns = min(len(panels), 6)
    rows = -(-len(panels) // columns)
    size = (2.3 * columns, 2.4 * rows)
    drawn, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained")
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    limits: list[tuple[float, float]] = []
    for ax, (label, tracks) in zip(axes.flat, panels.items(), strict=False):
        here = tracks[(tracks.track == 0) & (tracks.start < STRAY)]
        first = states(here, names[0])
        x, y = (first, states(here, names[1])) if len(names) > 1 else (first[:, :-1], first[:, 1:])
        style: dict[str, Any] = {"lw": 0.4} if len(names) > 1 else {"ls": "", "marker": ".", "ms": 1.2}
        ax.plot(x.T, y.T, color=COLOURS[0], alpha=0.6, **style)
        ax.set_title(label, fontsize=8)
        if not limits:  # the system's, which comes first
            limits = [around(part) for part in (x, y)]
            ax.set(xlabel=titles[0], ylabel=titles[1] if len(names) > 1 else f"next {titles[0]}")
    axes[0, 0].set(xlim=limits[0], ylim=limits[1])
    return uri(drawn, "png")


def around(x: np.ndarray) -> tuple[float, float]:
    """Limits that leave a fifth of the range free on both sides."""
    low, high = float(x.min()), float(x.max())
    return low - 0.2 * (high - low), high + 0.2 * (high - low)
