"""All measurements as one tidy frame, and what is derived from it: headline numbers, tables, plot data."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rectiflow.statistics import Estimate, estimate, holm, p_value, paired
from stages.shared.files import rounded
from stages.shared.measures import Better, measure, shown_in

FLOW = ["dataset", "method", "round"]
COLUMNS = [*FLOW, "seed", "solver", "nfe", "role", "metric", "value"]

Key = tuple[str, str, int]  # a trained model: data set, method, round


def tidy(parts: Mapping[Key, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """The measurements of all models as rows of COLUMNS."""
    frames = [
        pd.DataFrame(columns).assign(dataset=dataset, method=method, round=k)
        for (dataset, method, k), columns in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def select(results: pd.DataFrame, name: str, **where: Any) -> pd.DataFrame:
    """The rows of a measure, seed after seed: those of its metric and its role, where the named columns are equal."""
    of = measure(name)
    chosen = results[(results.metric == of.metric) & (results.role == of.role)]
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    return chosen.sort_values("seed", kind="stable")


def values_by_flow(results: pd.DataFrame, name: str) -> dict[Key, list[float]]:
    """A measure seed by seed for every model that has it, in the order of the results."""
    groups = select(results, name).groupby(FLOW, sort=False).value
    return {(dataset, method, int(k)): values.tolist() for (dataset, method, k), values in groups}


def by_flow(results: pd.DataFrame, name: str) -> dict[Key, Estimate]:
    """Its mean and interval."""
    return {key: estimate(values) for key, values in values_by_flow(results, name).items()}


def evaluations(results: pd.DataFrame, otherwise: str = "the reference draws") -> str:
    """What the reference draws took: `50 steps` where all took the same number."""
    nfe = select(results, "w2").nfe.unique()
    if len(nfe) != 1:
        return otherwise
    return f"{nfe[0]:g} steps" if nfe[0] > 1 else "1 evaluation"


def title(results: pd.DataFrame, name: str) -> str:
    """The title of a measure, with what the draws took where it is measured on the reference draws."""
    of = measure(name)
    return f"{of.title}, {evaluations(results, 'reference')}" if of.role == "reference" else of.title


class Values(NamedTuple):
    """A label and its values by seed."""

    label: str
    values: list[float]


def ranked(rows: Sequence[Values], better: Better = "smaller") -> list[Values]:
    """The best mean first."""
    return sorted(rows, key=lambda row: estimate(row.values).mean, reverse=better == "larger")


def against_first(rows: Sequence[Values]) -> list[tuple[str, Estimate, bool]]:
    """Every other row minus the first, paired by seed, and whether the seeds separate them (t tests, Holm's correction)."""
    gaps = [paired(row.values, rows[0].values) for row in rows[1:]]
    return [(row.label, gap, holds) for row, gap, holds in zip(rows[1:], gaps, certain(gaps), strict=True)]


def certain(gaps: Sequence[Estimate]) -> list[bool]:
    """Which of some paired differences the seeds show: t tests at 5 %, Holm's correction for all; of one seed none."""
    return [bool(kept) for kept in holm([p_value(gap) if gap.n > 1 else 1.0 for gap in gaps])]


def best(rows: Sequence[Values], better: Better = "smaller") -> set[str]:
    """The labels of the best mean and of those that the seeds do not separate from it; none for a single seed."""
    first = ranked(rows, better)
    if len(first) < 2 or len(first[0].values) < 2:
        return set()
    return {first[0].label, *(label for label, _, holds in against_first(first) if not holds)}


def headlines(results: pd.DataFrame) -> dict[str, Any]:
    """`{dataset: {method: {"round0": {name: mean}}}}` with the measures of `metrics.json`."""
    nested: dict[str, Any] = {}
    for name in shown_in("metrics"):
        for (dataset, method, k), value in by_flow(results, name).items():
            nested.setdefault(dataset, {}).setdefault(method, {}).setdefault(f"round{k}", {})[name] = rounded(value.mean)
    return nested


def agreements(relations: pd.DataFrame) -> dict[str, Any]:
    """`{"relations": {name: {metric: mean}}}` over everything that is compared; empty without relations."""
    if relations.empty:
        return {}
    whole = relations[relations.high - relations.low > 0.5].groupby(["name", "metric"], sort=False).value.mean()
    nested: dict[str, Any] = {}
    for (name, metric), value in whole.items():
        nested.setdefault(name, {})[metric] = rounded(value)
    return {"relations": nested}


def against_nfe(results: pd.DataFrame) -> pd.DataFrame:
    """W2 of every model, solver and NFE: mean over seeds and interval."""
    keys = [*FLOW, "solver"]
    rows = []
    # An adaptive solver's NFE differs between seeds: its point stands at their mean.
    drawn = results[results.metric == "w2"].copy()
    drawn["place"] = drawn.groupby([*keys, "seed"]).cumcount()
    for (*key, _), group in drawn.groupby([*keys, "place"], sort=False):
        value = estimate(group.value.tolist())
        rows.append([*key, group.nfe.mean(), value.mean, value.mean - value.half, value.mean + value.half])
    return pd.DataFrame(rows, columns=[*keys, "nfe", "w2", "low", "high"]).assign(flow=_flow)


def per_round(results: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Means of every flow that has the first of some measures, one column each; NaN for what else it has not."""
    found = {name: by_flow(results, name) for name in names}
    rows = [[*key, *(found[name][key].mean if key in found[name] else np.nan for name in names)] for key in found[names[0]]]
    return pd.DataFrame(rows, columns=[*FLOW, *names]).assign(flow=_flow)


def curves(parts: Mapping[Key, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """Loss curves of all models, means over seeds."""
    frames = [
        pd.DataFrame(columns).groupby("step")[["training", "validation"]].mean().reset_index()
        .assign(dataset=dataset, method=method, round=k)
        for (dataset, method, k), columns in parts.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True).assign(flow=_flow)


def _flow(frame: pd.DataFrame) -> pd.Series:
    return frame.dataset + " " + frame.method + " " + frame["round"].astype(str)
