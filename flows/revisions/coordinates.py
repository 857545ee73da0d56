"""Runs beside each other: a line for each over the parameters in which they differ and the measures of a model."""

from collections.abc import Mapping, Sequence

import pandas as pd

from flows.revisions.commits import measured
from stages.report.html import Section, note, part, section
from stages.report.parallel import Axis, parallel
from stages.report.results import FLOW
from stages.shared.measures import measure

NAME = "coordinates"


def coordinates(
    parameters: Mapping[str, Mapping[str, str]], results: Mapping[str, pd.DataFrame], metrics: Sequence[str]
) -> list[Section]:
    """A figure for every model that two runs or more have; nothing without any. `parameters` and `results` are those of each
    run by its name.
    """
    runs = list(results)
    keys = list(dict.fromkeys(key for of in parameters.values() for key in of))
    means = {
        run: measured(frame, metrics).groupby([*FLOW, "metric"], sort=False).value.mean() for run, frame in results.items()
    }
    models = dict.fromkeys(index[:3] for of in means.values() for index in of.index)
    parts: list[str] = []
    for dataset, method, k in models:
        there = [run for run in runs if any((dataset, method, k, name) in means[run].index for name in metrics)]
        if len(there) < 2:
            continue
        axes = [Axis(key, [parameters[run].get(key, "") for run in there]) for key in keys]
        for name in metrics:
            values = [means[run].get((dataset, method, k, name)) for run in there]
            if any(value is not None for value in values):
                axes.append(Axis(measure(name).title, ["" if value is None else f"{value:.4g}" for value in values]))
        title = f"{dataset} {method}, round {k}"
        parts.append(part(title, parallel(title, there, axes), unfolded=not parts))
    said = "Parameters on the left, as far as the runs differ in them, and means over seeds on the right, model by model."
    return [section(NAME, "Parallel coordinates", note(said), *parts)] if parts else []
