"""How well a score tells the points of a law from others."""

import math
from typing import NamedTuple

import numpy as np


class Detection(NamedTuple):
    """Of points that should be kept and others that should be flagged: the share `kept` and the share `flagged`, their mean
    `accuracy`; the probability `auroc` that a kept point scores above a flagged one; and the `average_precision` of flagging
    the lowest scores first.
    """

    kept: float
    flagged: float
    accuracy: float
    auroc: float
    average_precision: float


def detect(validation: np.ndarray, inside: np.ndarray, outside: np.ndarray, quantile: float = 0.05) -> Detection:
    """What is flagged scores below the `quantile` of a validation set; scores may be infinite. All are `(n,)` arrays.

    Raises ValueError for a score that is not a number.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve  # 1.5 s of imports that are seldom needed

    scores = [_finite(part) for part in (validation, inside, outside)]
    threshold = np.quantile(scores[0], quantile)
    kept, flagged = float((scores[1] >= threshold).mean()), float((scores[2] < threshold).mean())
    outlier = np.repeat([0, 1], [len(inside), len(outside)])
    low = -np.concatenate(scores[1:])
    wrong, right, _ = roc_curve(outlier, low)
    precision, recall, _ = precision_recall_curve(outlier, low)
    auroc = _summed(np.diff(wrong) * (right[1:] + right[:-1]) / 2)
    return Detection(kept, flagged, (kept + flagged) / 2, auroc, _summed(-np.diff(recall) * precision[:-1]))


def _summed(parts: np.ndarray) -> float:
    """The sum, rounded once: the order in which numpy adds depends on the processor."""
    return math.fsum(parts.tolist())


def _finite(scores: np.ndarray) -> np.ndarray:
    if np.isnan(scores).any():
        raise ValueError("scores: one is not a number")
    numbers: np.ndarray = np.nan_to_num(scores.astype(np.float64))  # infinities become the largest numbers there are
    return numbers


def typicality(validation: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """`-|log p - mean|`, the mean over a validation set: points of too high a density are not typical either (Nalisnick et
    al., arXiv 1906.02994).
    """
    typical: np.ndarray = -np.abs(log_prob - validation.mean())
    return typical
