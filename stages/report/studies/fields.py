"""Are two trained fields one field, there and brought to another path?"""

from html import escape

import pandas as pd

from rectiflow.statistics import estimate
from stages.report.evidence import Evidence, finding
from stages.report.figures import COLOURS, errorbars, panels, uri
from stages.report.html import figure, table
from stages.report.printing import plain, shown
from stages.shared.studies import Study


def fields(study: Study, evidence: Evidence) -> list[str]:
    """Two trained fields at the same points."""
    relations = evidence.table("relations")
    mine = relations[relations.dataset.isin(study.datasets)]
    whole = mine[mine.high - mine.low > 0.5]
    parts, rows = [], []
    for name, found in mine.groupby("name", sort=False):
        all_t = whole[whole["name"] == name]
        cells = {metric: part.value.tolist() for metric, part in all_t.groupby("metric", sort=False)}
        first = found.iloc[0]
        errors = [shown(cells.get(f"error_{which}", [])) for which in ("first", "second")]
        rows.append(
            [escape(f"{name}, on {first['path']}"), shown(cells["correlation"]), shown(cells["difference"]), *errors]
        )
        said = (
            f"on the path {first['path']} the fields of {first['first']} and {first['second']} have correlation "
            f"{plain(estimate(cells['correlation']))} and relative L2 difference {plain(estimate(cells['difference']))} "
            "at x ~ p_t, t in [0.05, 0.95]"
        )
        parts.append(finding(name, f"{said}."))
    header = ["relation", "correlation", "relative difference", "error of the first", "error of the second"]
    tenths = mine[(mine.high - mine.low < 0.5) & mine.value.notna()]
    caption = (
        "Over tenths of t: how the two fields agree, and how far each is from the closed form (relative L2). At small t the "
        "noise prediction is divided by a small weight of the data, which magnifies its error; bars are 95 % intervals."
    )
    return [*parts, table(header, rows), figure(agreement(tenths), caption)]


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
            errorbars(ax, [low + 0.05 for low in groups.groups], found, label=label, color=COLOURS[k], lw=1.4)
        ax.set(title=name, yscale="log", xlabel="t", ylabel="relative L2")
        ax.legend(fontsize=7)
    return uri(figure, "svg")
