"""W2 against evaluations, every solver and sampler of the methods."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from stages.report.evidence import Evidence, at_nfe, finding, verdict
from stages.report.figures import COLOURS, levels, panels, uri
from stages.report.html import figure, table
from stages.report.printing import shown
from stages.report.results import Values
from stages.shared.measures import MEASURES
from stages.shared.studies import Study

Kind = tuple[str, int, str]  # method, round, solver


def steps(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding and table, and the figure of all."""
    mine = evidence.nfe[evidence.nfe.dataset.isin(study.datasets) & evidence.nfe.method.isin(study.methods)]
    mine = mine if study.rounds is None else mine[mine["round"] <= study.rounds]
    parts = [part for dataset in study.datasets for part in step_parts(mine, evidence, dataset)]
    caption = "W2 against evaluations, by method, round and solver; bars are 95 % intervals, grey lines the floors."
    return [*parts, figure(solvers(mine, evidence.floors), caption)]


def step_parts(mine: pd.DataFrame, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set, and its table."""
    # An adaptive solver chooses its evaluations, each seed its own: it is in the figure, at their mean.
    groups = mine[mine.dataset == dataset].groupby(["method", "round", "solver"], sort=False).nfe
    fixed = {kind: set(nfe) for kind, nfe in groups if not kind[2].startswith("dopri")}
    names = {kind: f"{kind[0]} round {kind[1]} by {kind[2]}" for kind in fixed}
    shared = sorted(n for n in set().union(*fixed.values()) if sum(n in nfe for nfe in fixed.values()) > 1)
    cells = {(kind, n): at_nfe(evidence, dataset, kind[0], kind[1], n, kind[2]) for kind in fixed for n in shared}
    told = sorted({shared[0], min(shared, key=lambda n: abs(n - 10)), shared[-1]}) if shared else []
    said = [f"at {n:g} evaluation{'s' * (n != 1)} {verdict(at(names, cells, n), MEASURES['w2'].title)}" for n in told]
    rows = [[escape(names[kind]), *(shown(cells[kind, n]) for n in shared)] for kind in fixed]
    return [
        finding(f"{dataset} (floor {evidence.floors[dataset]:.3f})", f"{'; '.join(said)}."),
        table(["method, round and solver", *(f"{n:g}" for n in shared)], rows),
    ]


def at(names: Mapping[Kind, str], cells: Mapping[tuple[Kind, float], list[float]], nfe: float) -> list[Values]:
    """The kinds that were drawn from at so many evaluations."""
    return [Values(name, cells[kind, nfe]) for kind, name in names.items() if cells[kind, nfe]]


def solvers(nfe: pd.DataFrame, floors: Mapping[str, float]) -> str:
    """W2 against evaluations, a panel for each data set, a line for each method, round and solver."""
    datasets = list(nfe.dataset.unique())
    kinds = list(dict.fromkeys(zip(nfe.method, nfe["round"], nfe.solver, strict=True)))
    figure, axes = panels(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=False):
        for kind, rows in nfe[nfe.dataset == dataset].groupby(["method", "round", "solver"], sort=False):
            errors = np.stack([rows.w2 - rows.low, rows.high - rows.w2])
            colour, label = COLOURS[kinds.index(kind) % len(COLOURS)], f"{kind[0]} {kind[1]} {kind[2]}"
            style: dict[str, Any] = {"color": colour, "lw": 1.4, "label": label}
            ax.errorbar(rows.nfe, rows.w2, errors, marker="o", ms=3, capsize=2, elinewidth=0.7, **style)
        levels(ax, floors[dataset])
        ax.set(title=dataset, xscale="log", yscale="log", xlabel="function evaluations", ylabel=MEASURES["w2"].axis)
        ax.legend(fontsize=7)
    return uri(figure, "svg")
