"""Rows that are alike: parts, nearly of a size, that rows of numbers are halved into."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Parts:
    """A tree of halves: node i asks whether number `column[i]` of a row is greater than `at[i]`, and has the children 2 i +
    1 and 2 i + 2.
    """

    column: np.ndarray
    at: np.ndarray

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The part of each of rows `(n, numbers)`, `(n,)`."""
        node, count = np.zeros(len(rows), int), len(self.at)
        for _ in range((count + 1).bit_length() - 1):
            node = 2 * node + 1 + (rows[np.arange(len(rows)), self.column[node]] > self.at[node])
        return node - count


def check_parts(parts: int, rows: int) -> None:
    """Raises ValueError where rows cannot be halved into so many parts."""
    if parts < 1 or parts & (parts - 1):
        raise ValueError(f"parts: {parts} must be a power of two")
    if parts > rows:
        raise ValueError(f"parts: {parts} must be at most the number of rows, {rows}")


def halved(rows: np.ndarray, parts: int) -> Parts:
    """So many parts, a power of two, of rows `(n, numbers)`: each half is halved again at the median of the number that
    varies most in it. Raises ValueError for another number of parts, and for more than there are rows.
    """
    check_parts(parts, len(rows))
    column, at = np.zeros(parts - 1, int), np.zeros(parts - 1)
    inside = [rows]
    for i in range(parts - 1):
        column[i] = int(inside[i].std(0).argmax()) if len(inside[i]) else 0
        numbers = inside[i][:, column[i]]
        at[i] = np.median(numbers) if len(numbers) else 0.0
        inside += [inside[i][numbers <= at[i]], inside[i][numbers > at[i]]]
    return Parts(column, at)
