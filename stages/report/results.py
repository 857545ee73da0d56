"""All measurements as one tidy frame, and what is derived from it: headline numbers, tables, plot data."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rectiflow.statistics import Estimate, estimate, holm, p_value, paired

COLUMNS = ["dataset", "method", "round", "seed", "solver", "nfe", "metric", "value"]
HEADLINES = ("w2", "w2_1step", "w2_floor", "straightness", "chord_deviation", "npe")


def tidy(parts: dict[tuple[str, str, int], dict[str, np.ndarray]]) -> pd.DataFrame:
    """The measurements of all flows, `(dataset, method, round)` -> columns, as rows of COLUMNS."""
    frames = [
        pd.DataFrame(columns).assign(dataset=dataset, method=method, round=k)
        for (dataset, method, k), columns in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def select(results: pd.DataFrame, steps: int, name: str, **where: Any) -> pd.DataFrame:
    """The rows of a headline number: W2 after `steps` Euler steps or one, or a metric that has one value a seed."""
    chosen = results[results.metric == {"w2_1step": "w2"}.get(name, name)]
    if name in ("w2", "w2_1step"):
        chosen = chosen[(chosen.solver == "euler") & (chosen.nfe == (1 if name == "w2_1step" else steps))]
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    return chosen.sort_values("seed", kind="stable")


def by_flow(results: pd.DataFrame, steps: int, name: str) -> dict[tuple[str, str, int], Estimate]:
    """Mean and interval of a headline number for every flow that has it, in the order of the results."""
    rows = select(results, steps, name)
    groups = rows.groupby(["dataset", "method", "round"], sort=False).value
    return {(dataset, method, int(k)): estimate(values.tolist()) for (dataset, method, k), values in groups}


class Values(NamedTuple):
    """A label and its values by seed."""

    label: str
    values: list[float]


def against_first(rows: Sequence[Values]) -> list[tuple[str, Estimate, bool]]:
    """Every other row minus the first, paired by seed, and whether the seeds separate them (t tests, Holm's correction)."""
    gaps = [paired(row.values, rows[0].values) for row in rows[1:]]
    kept = holm([p_value(gap) if gap.n > 1 else 1.0 for gap in gaps])
    return [(row.label, gap, bool(holds)) for row, gap, holds in zip(rows[1:], gaps, kept, strict=True)]


def smallest(rows: Sequence[Values]) -> set[str]:
    """The labels of the smallest mean and of those that the seeds do not separate from it; none for a single seed."""
    ranked = sorted(rows, key=lambda row: estimate(row.values).mean)
    if len(ranked) < 2 or len(ranked[0].values) < 2:
        return set()
    return {ranked[0].label, *(label for label, _, holds in against_first(ranked) if not holds)}


def headlines(results: pd.DataFrame, steps: int) -> dict[str, Any]:
    """`{dataset: {method: {"round0": {name: mean}}}}` with the names of HEADLINES."""
    nested: dict[str, Any] = {}
    for name in HEADLINES:
        for (dataset, method, k), value in by_flow(results, steps, name).items():
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


def rounded(value: float) -> float:
    """Ten significant digits: what the seeds can never resolve stays out of the diffs."""
    return float(f"{value:.10g}")


def against_nfe(results: pd.DataFrame) -> pd.DataFrame:
    """W2 of every flow, solver and NFE: mean over seeds and interval, beside the floor."""
    keys = ["dataset", "method", "round", "solver"]
    rows = []
    # An adaptive solver's NFE differs between seeds: its point stands at their mean.
    drawn = results[results.metric == "w2"].copy()
    drawn["place"] = drawn.groupby([*keys, "seed"]).cumcount()
    for (*key, _), group in drawn.groupby([*keys, "place"], sort=False):
        value = estimate(group.value.tolist())
        rows.append([*key, group.nfe.mean(), value.mean, value.mean - value.half, value.mean + value.half])
    return pd.DataFrame(rows, columns=[*keys, "nfe", "w2", "low", "high"]).assign(flow=_flow)


def per_round(results: pd.DataFrame, steps: int, names: Sequence[str]) -> pd.DataFrame:
    """Headline numbers of every flow, one column each."""
    found = {name: by_flow(results, steps, name) for name in names}
    rows = [[*key, *(found[name][key].mean for name in names)] for key in found[names[0]]]
    return pd.DataFrame(rows, columns=["dataset", "method", "round", *names]).assign(flow=_flow)


def curves(parts: dict[tuple[str, str, int], dict[str, np.ndarray]]) -> pd.DataFrame:
    """Loss curves of all flows, means over seeds."""
    frames = [
        pd.DataFrame(columns).groupby("step")[["training", "validation"]].mean().reset_index()
        .assign(dataset=dataset, method=method, round=k)
        for (dataset, method, k), columns in parts.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True).assign(flow=_flow)


def _flow(frame: pd.DataFrame) -> pd.Series:
    return frame.dataset + " " + frame.method + " " + frame["round"].astype(str)
