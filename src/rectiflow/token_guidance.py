"""What a sampler of tokens asks of a model: the law of single tokens, with what a draw is asked to be, and beyond."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rectiflow.models.token_network import Asked

Law = Callable[[Tensor, Tensor | None], Tensor]  # logits for tokens and conditions


@dataclass(frozen=True)
class TokenGuidance:
    """The law `p(x1 | c)^scale p(x1)^(1 - scale)` of every token, which is that of rates raised and multiplied in this way
    (Nisonoff et al., arXiv 2406.01572): its sum is what the rate of a jump is multiplied with. `scale` 1 is the law itself
    and asks the model once; any other asks it twice, and its draws are of no known law.

    `model` is one of a single seed, c its conditions `(n, conditions)`, None where nothing is given.
    """

    model: Any
    c: Tensor | None
    scale: float

    @classmethod
    def of(cls, model: Any, scale: float) -> "TokenGuidance":
        """Of a model, or of one with conditions. Raises ValueError where there is nothing to go beyond."""
        asked = model if isinstance(model, Asked) else None
        if scale != 1:
            if asked is None:
                raise ValueError(f"scale: {scale:g} goes beyond what is asked for, and nothing is; 1 is none")
            if not asked.model.dropout:
                raise ValueError("scale: the model was trained with a dropout of 0, and knows no law without a condition")
        return cls(model if asked is None else asked.model, None if asked is None else asked.c[0], scale)

    @property
    def passes(self) -> int:
        """How often it asks the model."""
        return 1 if self.scale == 1 else 2

    def log_p(self, rows: Tensor, law: Law) -> Tensor:
        """The logarithm of the law `(m, dim, V)` in double precision, whose sum is 1 at scale 1 alone, for the tokens in
        these places `(m,)` among the draws.
        """
        c = None if self.c is None else self.c[rows][None]
        asked = law(rows, c)[0].double().log_softmax(-1)
        if self.scale == 1:
            return asked
        free = law(rows, None)[0].double().log_softmax(-1)
        return torch.where(free.isneginf(), free, free + self.scale * (asked - free))
