"""What can be seen of a data set of tokens, of one seed: rows of the test set, what models draw, and rows on their way."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stages.shared.points import About

HIDDEN = -1  # a token that is not known yet, as `rectiflow.tokens` has it, which would import torch


class Way(NamedTuple):
    """Rows `(times, n, dim)` on their way to the data, at so many times; a token may be HIDDEN."""

    times: np.ndarray
    x: np.ndarray


class TokenRoll(NamedTuple):
    """What one model drew as its reference, `(n, dim)`, by which sampler and in how many evaluations, and some rows on their
    way there. `asked` says whether it was told classes or conditions; `even` that of a flow as large a share of all tokens
    comes in every step.
    """

    solver: str
    nfe: int
    x: np.ndarray
    way: Way
    asked: bool = False
    even: bool = False


class TokenAlbum(NamedTuple):
    """Rows of the test set `(n, dim)`, and what every model, a method of round 0, drew."""

    seed: int
    about: About
    test: np.ndarray
    rolls: Mapping[str, TokenRoll]

    @property
    def picture(self) -> bool:
        """Whether rows are pictures."""
        return len(self.about.shape) == 3

    @property
    def plane(self) -> bool:
        """Whether rows are cells of a board."""
        return self.about.in_plane

    def word(self, row: Sequence[int]) -> str:
        """A row as it is said: its tokens, or the words that these stand for."""
        if self.about.words:
            return " ".join(str(words[token]) for words, token in zip(self.about.words, row, strict=True))
        return ("" if max(self.about.vocabulary) <= 10 else " ").join(map(str, row))


def shades(x: np.ndarray, about: About) -> np.ndarray:
    """Pictures of tokens as numbers in [-1, 1]: `2 x / (V - 1) - 1`."""
    return (2 * x / (np.array(about.vocabulary) - 1) - 1).astype(np.float32)
