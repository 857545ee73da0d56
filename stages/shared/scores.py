"""Log densities of points, and the numbers that follow from them."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rectiflow.detection import Detection, detect, typicality
from rectiflow.entropy import LogProb
from rectiflow.units import Units
from stages.shared.params import Refused
from stages.shared.tasks import Draw, Task


class Known(NamedTuple):
    """What is known of a data set: the log densities of both sides, the target's entropy and a table's units, None where
    they are not; and the number of coordinates.
    """

    source: LogProb | None
    target: LogProb | None
    entropy: float | None
    units: Units | None = None
    dim: int = 0


class Scores(NamedTuple):
    """Log densities of points in nats `(n,)`, their standard errors over probes, and what they cost for each point."""

    log_prob: np.ndarray
    error: np.ndarray
    nfe: int


Found = Mapping[str, tuple[Scores, np.ndarray]]  # the scores of every split, and the truth


def finite(name: str, seed: int, split: str, scores: Scores, ranked: bool = False) -> Scores:
    """The scores. Raises Refused naming the first one that is not finite: nothing is averaged over it. Those that are only
    `ranked` may be minus infinity, below all others.
    """
    fine = np.isfinite(scores.log_prob) | (ranked & np.isneginf(scores.log_prob))
    bad = np.flatnonzero(~fine)
    if len(bad):
        raise Refused(
            f"density of {name}: seed {seed}, row {bad[0]} of {split}: log p is {scores.log_prob[bad[0]]:g}: the model maps "
            f"this point further than single precision reaches; train it longer or bound it more"
        )
    return scores


def points_table(seed: int, split: str, scores: Scores, true: np.ndarray) -> dict[str, Any]:
    """Rows `(seed, split, log_prob, error, truth)`."""
    return {
        "seed": np.full(len(true), seed, np.int32), "split": np.repeat(split, len(true)),
        "log_prob": scores.log_prob, "error": scores.error, "truth": true,
    }  # fmt: skip


def measures(seed: int, found: Found, coarse: Scores, known: Known, solver: str) -> Iterator[Task]:
    """All numbers of one seed; `coarse` are the test set's scores with half the steps."""
    (scores, true), nll = found["test"], {split: -of.log_prob for split, (of, _) in found.items()}
    draw = Draw(seed, solver if scores.nfe > 1 else "", scores.nfe)
    values: dict[str, Any] = {
        "nll": nll["test"].mean(), "nll_validation": nll["validation"].mean(), "nll_train": nll["train"].mean(),
        "nll_median": np.median(nll["test"]), "nll_worst": nll["test"].max(),
    }  # fmt: skip
    if known.units is not None and known.units.levels:
        bits = known.dim * math.log(2)
        values |= {"bits_per_dim": nll["test"].mean() / bits, "bits_per_dim_train": nll["train"].mean() / bits}
    if scores.nfe > 1:
        values["nll_coarse"] = -coarse.log_prob.mean()
    if known.entropy is not None:
        values["nll_floor"] = known.entropy
    if known.target is not None:
        gap = true - scores.log_prob
        values |= {"kl": gap.mean(), "kl_worst": gap.max(), "log_prob_rms": np.sqrt(np.square(gap).mean())}
    if not np.isnan(scores.error).all():
        values["log_prob_error"] = np.sqrt(np.square(scores.error).mean())
    for name, value in values.items():
        yield Task(draw, name, partial(float, value))
    if "outliers" in found:
        yield from outlier_measures(draw, found, known)


def outlier_measures(draw: Draw, found: Found, known: Known, typical: bool = True) -> Iterator[Task]:
    """How well a score, and how typical a log density is, tells the test set from the outliers; and the truth's own, the
    ceiling.
    """
    validation, inside, outside = (found[split] for split in ("validation", "test", "outliers"))
    own = validation[0].log_prob, inside[0].log_prob, outside[0].log_prob
    yield from named_measures(draw, "", detect(*own))
    if typical:
        held, kept, flagged = (typicality(own[0], of) for of in own)
        yield from named_measures(draw, "_typicality", detect(held, kept, flagged))
    if known.target is not None:
        yield from named_measures(draw, "_ceiling", detect(validation[1], inside[1], outside[1]))


def named_measures(draw: Draw, suffix: str, found: Detection) -> Iterator[Task]:
    for name, value in found._asdict().items():
        yield Task(draw, f"{name}{suffix}", partial(float, value))
