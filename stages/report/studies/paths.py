"""Which path is straighter, which is better at few evaluations, which is learned in fewer steps."""

from collections.abc import Mapping
from html import escape

import pandas as pd

from rectiflow.statistics import estimate
from stages.report import figures
from stages.report.evidence import Evidence, at_nfe, finding, measured, values, verdict
from stages.report.figures import errorbars, levels, line_style, panels, uri
from stages.report.html import figure, note, table
from stages.report.printing import plain, shown
from stages.report.results import Values, evaluations, title
from stages.shared.measures import MEASURES
from stages.shared.studies import Study

NEAR = 1.1  # a W2 within ten per cent of another
COLUMNS = ("straightness", "chord_deviation", "w2", "loss", "loss_floor", "velocity_error")


def paths(study: Study, evidence: Evidence) -> list[str]:
    """Paths against each other, at round 0."""
    parts = [part for dataset in study.datasets for part in path_parts(study, evidence, dataset)]
    mine = picked(study, evidence.nfe)
    caption = "W2 against evaluations, round 0; bars are 95 % intervals."
    parts.append(figure(figures.against_nfe(mine, evidence.floors), caption))
    histories = {(d, m): settled(evidence, d, m) for d in study.datasets for m in mine.method.unique()}  # in one order
    if all(len(history) for history in histories.values()):
        taken = evaluations(picked(study, evidence.results))
        caption = (
            f"W2 after so many training steps, by {taken} of the averaged weights; bars are 95 % intervals. The learning "
            "rate falls to zero at the last step: what is learned early is learned at a high rate."
        )
        parts.append(figure(learning(histories, evidence.floors), caption))
    return [
        *parts,
        note(
            "The loss is measured at points of the path for t in [0.05, 0.95]; its floor is the loss of the closed form "
            "itself, the variance of the path's velocity given the point. Floors differ between paths, so losses compare "
            "with their own floor alone."
        ),
    ]


def picked(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the study's data sets and methods at round 0."""
    return rows[rows.dataset.isin(study.datasets) & rows.method.isin(study.methods) & (rows["round"] == 0)]


def path_parts(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set, and its table."""
    few = near_ten(evidence)
    near = [Values(m, at_nfe(evidence, dataset, m, 0, few)) for m in study.methods]
    learned = [Values(m, steps_until(settled(evidence, dataset, m))) for m in study.methods]
    floor = plain(estimate(values(evidence, "w2_floor", dataset, study.methods[0], 0)))
    straight = measured(evidence, "straightness", dataset, study.methods)
    said = f"{straight}. At {few} Euler steps {verdict(near, MEASURES['w2'].title)} (floor {floor})."
    if all(row.values for row in learned):
        said += f" Of the steps until W2 stays within 10 % of its last value, {verdict(learned, 'number')}."
    here = picked(study, evidence.results)
    here = here[here.dataset == dataset]
    rows = []
    for at_few, until in zip(near, learned, strict=True):
        found = [values(evidence, name, dataset, at_few.label, 0) for name in COLUMNS]
        rows.append([escape(at_few.label), *map(shown, [*found, at_few.values, until.values])])
    titles = [title(here, name) for name in COLUMNS]
    return [finding(dataset, said), table(["path", *titles, f"W2, {few} steps", "steps until near"], rows)]


def near_ten(evidence: Evidence) -> int:
    """The Euler steps nearest to ten that flows were drawn with."""
    nfe = evidence.nfe[evidence.nfe.solver == "euler"].nfe
    return int(min(sorted(nfe.unique()), key=lambda n: abs(n - 10)))


def settled(evidence: Evidence, dataset: str, method: str) -> pd.DataFrame:
    """W2 after so many training steps of round 0: columns `seed, step, value`."""
    rows = evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.method == method) & (rows["round"] == 0)]
    rows = rows[rows.metric.str.startswith("w2_after_")]
    return rows.assign(step=rows.metric.str.removeprefix("w2_after_").astype(int))[["seed", "step", "value"]]


def steps_until(history: pd.DataFrame) -> list[float]:
    """For each seed, the first number of steps from which on W2 stays within ten per cent of its last value."""
    found = []
    for _, rows in history.sort_values("step").groupby("seed"):
        outside = rows.step[rows.value > NEAR * rows.value.iloc[-1]]
        after = rows.step if outside.empty else rows.step[rows.step > outside.iloc[-1]]
        found.append(float(after.iloc[0]))
    return found


def learning(histories: Mapping[tuple[str, str], pd.DataFrame], floors: Mapping[str, float]) -> str:
    """W2 after so many training steps, a panel for each data set; histories `(dataset, method)` -> `seed, step, value`."""
    datasets, methods = (list(dict.fromkeys(key[i] for key in histories)) for i in (0, 1))
    figure, axes = panels(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=False):
        for method in methods:
            groups = histories[dataset, method].groupby("step").value
            found = [estimate(values.tolist()) for _, values in groups]
            errorbars(ax, list(groups.groups), found, label=method, **line_style(methods, method, 0))
        levels(ax, floors[dataset])
        ax.set(title=dataset, yscale="log", xlabel="training steps", ylabel=MEASURES["w2"].axis)
        ax.legend(fontsize=7, ncols=2)
    return uri(figure, "svg")
