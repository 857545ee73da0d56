"""What separates two sets of measurements: paired by seed, in words, and corrected for how many rows are looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan, nan

import pandas as pd

from rectiflow.statistics import LEVEL, Estimate, estimate, holm, p_value, paired
from stages.report.results import FLOW
from stages.shared.measures import Better, measure

SEPARATED = ("better", "worse", "lower", "higher")


@dataclass(frozen=True)
class Difference:
    """A metric of a flow on both sides; `gap` is run minus baseline over the seeds that both have, `p` its Student's t."""

    dataset: str
    method: str
    round: int
    metric: str
    baseline: Estimate | None
    run: Estimate | None
    gap: Estimate | None
    verdict: str
    p: float = nan
    holm: bool = False


def differences(baseline: pd.DataFrame, run: pd.DataFrame) -> list[Difference]:
    """Every flow and metric of two `measured` frames, those that survive Holm's correction marked."""
    first, other = (
        {key: rows.set_index("seed").value for key, rows in frame.groupby([*FLOW, "metric"], sort=False)}
        for frame in (baseline, run)
    )
    rows = [difference(key, first.get(key), other.get(key)) for key in dict.fromkeys([*first, *other])]
    tested = [k for k, row in enumerate(rows) if not isnan(row.p)]
    kept = {k for k, holds in zip(tested, holm([rows[k].p for k in tested]), strict=True) if holds}
    return [replace(row, holm=k in kept) for k, row in enumerate(rows)]


def difference(key: tuple[str, str, int, str], first: pd.Series | None, other: pd.Series | None) -> Difference:
    """One row from the values by seed, None for a side that has none."""
    before, after = (None if side is None else estimate(side.tolist()) for side in (first, other))
    if first is None or other is None:
        return Difference(*key, before, after, None, "only in run" if first is None else "only in baseline")
    common = first.index.intersection(other.index).sort_values()
    if common.empty:
        return Difference(*key, before, after, None, "no seed in common")
    gap = paired(other[common].tolist(), first[common].tolist())
    found = verdict(gap, bool((other[common] == first[common]).all()), measure(key[-1]).better)
    return Difference(*key, before, after, gap, found, p_value(gap) if found in (*SEPARATED, "not separated") else nan)


def verdict(gap: Estimate, same: bool, better: Better) -> str:
    """What the interval of a paired difference says. What belongs to the data, such as a floor, is neither good nor bad."""
    if same:
        return "the same"
    if not isfinite(gap.mean):
        return "not finite"
    if gap.n == 1:
        return "one seed"
    if abs(gap.mean) <= gap.half:
        return "not separated"
    if not better:
        return "higher" if gap.mean > 0 else "lower"
    return "better" if (gap.mean > 0) == (better == "larger") else "worse"


def summary(rows: Sequence[Difference]) -> str:
    """How many rows are separated, beside how many would be if nothing had changed."""
    same, tested = sum(row.verdict == "the same" for row in rows), sum(not isnan(row.p) for row in rows)
    separated, kept = sum(row.verdict in SEPARATED for row in rows), sum(row.holm for row in rows)
    chance = (
        f" {separated} of the intervals exclude zero, where chance alone would make it about {LEVEL * tested:.1f}; {kept} "
        "still do after Holm's correction (†)."
    )
    return f"{len(rows)} rows: {same} the same, {tested} with an interval around a difference." + chance * (tested > 0)
