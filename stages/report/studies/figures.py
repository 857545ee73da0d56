"""Figures of the sections that look into one question: means over seeds with their 95 % intervals, as data URIs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from rectiflow.statistics import Estimate, estimate
from stages.report.figures import COLOURS, GREY, levels, line_style, panels, uri
from stages.report.results import by_flow


def _estimates(ax: Axes, x: Sequence[float], found: Sequence[Estimate], **style: object) -> None:
    """Means with their intervals against x."""
    ax.errorbar(x, [e.mean for e in found], [e.half for e in found], marker="o", ms=3, capsize=2, elinewidth=0.7, **style)


def learning(histories: dict[tuple[str, str], pd.DataFrame], floors: dict[str, float]) -> str:
    """W2 after so many training steps, a panel for each data set; histories `(dataset, method)` -> `seed, step, value`."""
    datasets, methods = (list(dict.fromkeys(key[i] for key in histories)) for i in (0, 1))
    figure, axes = panels(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=False):
        for method in methods:
            groups = histories[dataset, method].groupby("step").value
            found = [estimate(values.tolist()) for _, values in groups]
            _estimates(ax, list(groups.groups), found, label=method, **line_style(methods, method, 0))
        levels(ax, floors[dataset])
        ax.set(title=dataset, yscale="log", xlabel="training steps", ylabel="W2 to the test set")
        ax.legend(fontsize=7, ncols=2)
    return uri(figure, "svg")


def rounds(results: pd.DataFrame, steps: int) -> str:
    """Straightness and one-step W2 after each round: a row of two panels for each data set."""
    datasets, methods = list(results.dataset.unique()), list(results.method.unique())
    figure, axes = panels(2 * len(datasets))
    shown = [(dataset, name) for dataset in datasets for name in ("straightness", "w2_1step")]
    found = {name: by_flow(results, steps, name) for name in ("straightness", "w2_1step")}
    for ax, (dataset, name) in zip(axes, shown, strict=False):
        for method in methods:
            line = {k: value for (d, m, k), value in found[name].items() if (d, m) == (dataset, method)}
            _estimates(ax, list(line), list(line.values()), label=method, **line_style(methods, method, 0))
        label = {"straightness": "straightness S", "w2_1step": "W2 of one step"}[name]
        ax.set(title=f"{dataset}: {label}", yscale="log", xlabel="round", ylabel=label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=7)
    return uri(figure, "svg")


def solvers(nfe: pd.DataFrame, floors: dict[str, float]) -> str:
    """W2 against evaluations, a panel for each data set, a line for each method, round and solver."""
    datasets = list(nfe.dataset.unique())
    kinds = list(dict.fromkeys(zip(nfe.method, nfe["round"], nfe.solver, strict=True)))
    figure, axes = panels(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=False):
        for kind, rows in nfe[nfe.dataset == dataset].groupby(["method", "round", "solver"], sort=False):
            errors = np.stack([rows.w2 - rows.low, rows.high - rows.w2])
            colour, label = COLOURS[kinds.index(kind) % len(COLOURS)], f"{kind[0]} {kind[1]} {kind[2]}"
            style = {"color": colour, "lw": 1.4, "label": label}
            ax.errorbar(rows.nfe, rows.w2, errors, marker="o", ms=3, capsize=2, elinewidth=0.7, **style)
        levels(ax, floors[dataset])
        ax.set(title=dataset, xscale="log", yscale="log", xlabel="function evaluations", ylabel="W2 to the test set")
        ax.legend(fontsize=7)
    return uri(figure, "svg")


def beside(drawn: Mapping[tuple[str, str], Sequence[Any]], floors: dict[str, float]) -> str:
    """Ours and theirs, a panel for each metric and data set, a line for each flow; see `stages.report.studies.published`."""
    figure, axes = panels(len(drawn))
    for ax, ((metric, dataset), pairs) in zip(axes, drawn.items(), strict=False):
        found, places = [estimate(pair.ours) for pair in pairs], np.arange(len(pairs))
        style = {"color": COLOURS[0], "marker": "o", "ms": 4, "capsize": 2, "lw": 0, "elinewidth": 0.9}
        ax.errorbar([e.mean for e in found], places, xerr=[e.half for e in found], label="ours", **style)
        # A deviation wider than the mean would reach below zero, which the axis does not have.
        deviations = [[min(np.nan_to_num(p.deviation), 0.95 * p.mean) for p in pairs], [p.deviation for p in pairs]]
        style |= {"color": COLOURS[1], "mfc": "white"}
        ax.errorbar([p.mean for p in pairs], places + 0.25, xerr=np.nan_to_num(deviations), label="theirs", **style)
        if metric == "w2":
            ax.axvline(floors[dataset], color=GREY, lw=1, zorder=0)
        title = {"w2": "W2", "npe": "NPE"}[metric]
        ax.set(title=dataset, xscale="log", xlabel=title, yticks=places, yticklabels=[pair.label for pair in pairs])
        ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter())
        ax.invert_yaxis()
        ax.legend(fontsize=7)
    return uri(figure, "svg")


def agreement(relations: pd.DataFrame) -> str:
    """Two fields over tenths of t, a panel for each relation: how they differ and how far each is from the closed form."""
    names = list(relations.name.unique())
    labels = {"difference": "difference", "error_first": "first to closed form", "error_second": "second to closed form"}
    figure, axes = panels(len(names))
    for ax, name in zip(axes, names, strict=False):
        rows = relations[relations.name == name]
        for k, (metric, label) in enumerate(labels.items()):
            groups = rows[rows.metric == metric].groupby("low").value
            found = [estimate(values.tolist()) for _, values in groups]
            _estimates(ax, [low + 0.05 for low in groups.groups], found, label=label, color=COLOURS[k], lw=1.4)
        ax.set(title=name, yscale="log", xlabel="t", ylabel="relative L2")
        ax.legend(fontsize=7)
    return uri(figure, "svg")
