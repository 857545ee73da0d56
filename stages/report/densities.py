"""The sections of the report on densities: log p in nats beside what can be reached, its maps, and outliers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.report.figures import plt, uri
from stages.report.html import Section, figure, note, section
from stages.report.results import Key, by_flow

COLUMNS = 5  # panels side by side
RANGE = 8.0  # nats below the largest log density that a map shows


class DensityMap(NamedTuple):
    """The log density of a model, and the truth or None, at `(n, n)` points of the plane between two corners."""

    low: np.ndarray
    high: np.ndarray
    log_prob: np.ndarray
    truth: np.ndarray | None


def sections(results: pd.DataFrame, maps: Mapping[Key, DensityMap], tables: Mapping[str, Sequence[str]]) -> list[Section]:
    """What was measured of densities; nothing where none was. `tables` are those of the places densities and outliers."""
    found = []
    if by_flow(results, "nll"):
        said = (
            "Log densities in nats, in the units of the points. NLL is the mean of -log p over the test set; its floor is "
            "the entropy of the target, from which a finite test set differs by chance: KL to the truth is the mean of "
            "log p_true - log p over the same points. Densities of fields are solved from the data to the source, and once "
            "more with half the steps. One point far from the data can cost a mean its meaning: the median and the largest "
            "are beside it."
        )
        found.append(section("densities", "Densities", note(said), *tables["densities"], *pictures(maps)))
    if by_flow(results, "auroc"):
        said = (
            "How well log p tells the test set from the outliers that <code>params.yaml</code> names: AUROC, average "
            "precision, and the mean of the shares rightly kept and flagged at the 5 % quantile of the validation set. The "
            "ceilings are those of the data set's own density: outliers that fall on the data are found by nobody."
        )
        found.append(section("outliers", "Outliers", note(said), *tables["outliers"]))
    return found


def pictures(maps: Mapping[Key, DensityMap]) -> list[str]:
    """Maps of log p, data set by data set."""
    parts = []
    for dataset in dict.fromkeys(key[0] for key in maps):
        here = {key: of for key, of in maps.items() if key[0] == dataset}
        said = f"{dataset}: log p in nats, down to {RANGE:g} below the largest; the first seed's."
        parts.append(figure(side_by_side(here), said))
    return parts


def side_by_side(maps: Mapping[Key, DensityMap]) -> str:
    """The truth, where it is known, and every model's density on one colour scale."""
    first = next(iter(maps.values()))
    panels = {} if first.truth is None else {"truth": first.truth}
    panels |= {f"{method}, round {k}": of.log_prob for (_, method, k), of in maps.items()}
    top = float(np.nanmax(first.log_prob if first.truth is None else first.truth))
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(2.3 * columns + 0.6, 2.4 * rows), squeeze=False, layout="constrained")
    (left, bottom), (right, above) = first.low, first.high
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax, (title, log_prob) in zip(axes.flat, panels.items(), strict=False):
        shown = np.maximum(log_prob.T, top - RANGE)
        extent = (left, right, bottom, above)
        picture = ax.imshow(shown, vmin=top - RANGE, vmax=top, cmap="viridis", origin="lower", extent=extent, aspect="auto")
        ax.set(title=title, xticks=[], yticks=[])
    drawn.colorbar(picture, ax=axes, shrink=0.8, label="log p (nats)")
    return uri(drawn, "png")
