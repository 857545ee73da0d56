"""How histograms of tokens differ: over all rows there can be, over blocks of them, and over pairs of columns.

Rows are whole numbers `(n, dim)`, each column with a vocabulary of its own, 0 to V - 1. The total variation between two laws
is `1/2 sum |p - q|`, from 0 to 1. That of a finite sample to its own law is not 0: it is read beside that of a second sample
of the same size.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

COUNTABLE = 2**20  # rows that there can be, at most, where all are counted
WIDEST = 2**12  # values of all columns together, at most, where pairs of columns are counted
ROWS = 4096  # that are counted at a time

Vocabulary = Sequence[int]


def countable(vocabulary: Vocabulary) -> bool:
    """Whether there are so few rows that all can be counted."""
    return math.prod(vocabulary) <= COUNTABLE


def every(vocabulary: Vocabulary) -> np.ndarray:
    """All rows there can be, `(cells, dim)`, in the order of words of a dictionary."""
    return np.stack(np.unravel_index(np.arange(math.prod(vocabulary)), tuple(vocabulary)), 1)


def shares(x: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The share of each of all rows there can be, in the order of `every`."""
    places = np.ravel_multi_index(tuple(x.T.astype(np.int64)), tuple(vocabulary))
    found: np.ndarray = np.bincount(places, minlength=math.prod(vocabulary)) / len(x)
    return found


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """`1/2 sum |p - q|`."""
    return float(np.abs(p - q).sum() / 2)


def in_blocks(p: np.ndarray, vocabulary: Vocabulary, blocks: int) -> np.ndarray:
    """The shares of blocks of rows, so many for each column, from those of all rows: token k is in block `k blocks // V`."""
    sizes = [min(blocks, size) for size in vocabulary]
    where = [column * few // size for column, few, size in zip(every(vocabulary).T, sizes, vocabulary, strict=True)]
    places = np.ravel_multi_index(tuple(where), tuple(sizes))
    return np.bincount(places, weights=p, minlength=math.prod(sizes))


def narrow(vocabulary: Vocabulary) -> bool:
    """Whether the columns have so few values together that pairs of them can be counted."""
    return sum(vocabulary) <= WIDEST


def pairs_tv(x: np.ndarray, y: np.ndarray, vocabulary: Vocabulary) -> float:
    """The mean over all pairs of columns of the total variation between both samples' histograms of the pair."""
    gap, starts = np.abs(_together(x, vocabulary) - _together(y, vocabulary)), _starts(vocabulary)
    by_pair = np.add.reduceat(np.add.reduceat(gap, starts, 0), starts, 1) / 2
    return float(by_pair[np.triu_indices(len(vocabulary), 1)].mean())


def _starts(vocabulary: Vocabulary) -> np.ndarray:
    """Where the values of each column begin among those of all."""
    return np.cumsum([0, *vocabulary[:-1]])


def _together(x: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """How often each value of a column comes with each of another, as shares, `(sum V, sum V)`."""
    starts, whole = _starts(vocabulary), sum(vocabulary)
    found = np.zeros((whole, whole))
    for a in range(0, len(x), ROWS):
        part = x[a : a + ROWS].astype(np.int64) + starts
        one = np.zeros((len(part), whole), np.float32)
        np.put_along_axis(one, part, 1.0, 1)
        found += one.T @ one  # whole numbers below 2^24: exact
    return found / len(x)


def apart(x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The same columns, each in an order of its own: a sample of the law of independent columns."""
    return np.stack([generator.permutation(column) for column in x.T], 1)


def independent(x: np.ndarray, vocabulary: Vocabulary) -> Callable[[np.ndarray], np.ndarray]:
    """The log probability, in nats, of independent columns with the shares that they have in a sample, by Laplace's rule of
    succession, `(count + 1) / (n + V)`: no value is impossible.
    """
    counts = [np.bincount(column, minlength=size) for column, size in zip(x.T, vocabulary, strict=True)]
    logs = [np.log((count + 1) / (len(x) + len(count))) for count in counts]

    def log_prob(rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = sum(log[column] for log, column in zip(logs, rows.T, strict=True))
        return found

    return log_prob
