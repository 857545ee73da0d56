"""Samplers that draw one token of a row after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.models.autoregressive import Causal
from rectiflow.models.model import Model
from rectiflow.models.posterior import Posterior
from rectiflow.ranges import among, at_least, positive
from rectiflow.solvers import Solution
from rectiflow.token_guidance import Law, TokenGuidance
from rectiflow.tokens import HIDDEN, drawn

ORDERS = ("random", "columns")


@dataclass(frozen=True)
class OneByOne:
    """The tokens of a row by an evaluation each. `temperature` divides the logits; `scale` is that of guidance (see
    `TokenGuidance`).
    """

    score: ClassVar[bool] = False
    shown: ClassVar[bool] = False  # whether it needs a source that shows itself
    steps: ClassVar[int] = 0  # as many as there are tokens
    temperature: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        at_least(0, scale=self.scale)
        positive(temperature=self.temperature)

    @property
    def options(self) -> list[str]:
        """What a label says of them."""
        options = {"temperature": self.temperature, "guidance": self.scale}
        return [f"{name} {value:g}" for name, value in options.items() if value != 1]

    def starts(self, path: Interpolant) -> bool:
        """Always."""
        return True

    def solution(self, guidance: TokenGuidance, states: Iterator[Tensor], trajectory: bool) -> Solution:
        """Of the states `(n, dim)` after each token."""
        found = list(states)
        times = torch.linspace(0, 1, len(found), dtype=torch.float64)
        kept = found if trajectory else [found[0], found[-1]]
        return Solution(
            times if trajectory else times[[0, -1]], torch.stack(kept)[:, None], guidance.passes * (len(found) - 1)
        )

    def states(self, guidance: TokenGuidance, x0: Tensor, order: Tensor, law: Law, generator: Generator) -> Iterator[Tensor]:
        """Rows of hidden tokens, and what they are after each further token, in the order `(n, dim)`; `law` gives the logits
        for rows as far as they are known.
        """
        x = torch.full_like(x0[0], HIDDEN, dtype=torch.int64)
        everyone = torch.arange(len(x), device=x.device)
        yield x
        for column in order.unbind(-1):
            log_p = guidance.log_p(everyone, _after(x, law))[everyone, column]
            x = x.scatter(-1, column[:, None], drawn(log_p / self.temperature, generator)[:, None])
            yield x


@dataclass(frozen=True)
class AnyOrder(OneByOne):
    """The tokens in an `order`, `random` for every row or that of the `columns`, from the posterior of a flow whose source
    shows itself.
    """

    needs: ClassVar[type[Model]] = Posterior
    shown: ClassVar[bool] = True
    order: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        among(ORDERS, order=self.order)

    @property
    def label(self) -> str:
        said = ([] if self.order == "random" else [self.order]) + self.options
        return f"any_order({', '.join(said)})" if said else "any_order"

    def __call__(self, model: Any, x0: Tensor, generator: Generator, trajectory: bool = False) -> Solution:
        """Of as many rows as x0 `(1, n, dim)` has. Raises ValueError for a source that does not show itself, and for a scale
        where nothing is asked for.
        """
        guidance = TokenGuidance.of(model, self.scale)
        flow: Posterior = guidance.model
        if not flow.origin.shows:
            raise ValueError(f"any_order: from the source {flow.source!r} tokens come in no order; a masked one is needed")
        order = torch.arange(x0.shape[-1]).expand(x0.shape[1:])
        if self.order == "random":
            order = torch.rand(x0.shape[1:], generator=generator, dtype=torch.float64).argsort(-1)
        share = torch.zeros((), dtype=torch.float64, device=x0.device)  # a source that shows itself takes no notice
        states = self.states(guidance, x0, order.to(x0.device), lambda x, c: flow.at(share, x, c), generator)
        return self.solution(guidance, states, trajectory)


@dataclass(frozen=True)
class NextByNext(OneByOne):
    """The tokens from the first column to the last, by a causal law."""

    needs: ClassVar[type[Model]] = Causal

    @property
    def label(self) -> str:
        return f"autoregressive({', '.join(self.options)})" if self.options else "autoregressive"

    def __call__(self, model: Any, x0: Tensor, generator: Generator, trajectory: bool = False) -> Solution:
        """Of as many rows as x0 `(1, n, dim)` has. Raises ValueError for a scale where nothing is asked for."""
        guidance = TokenGuidance.of(model, self.scale)
        order = torch.arange(x0.shape[-1], device=x0.device).expand(x0.shape[1:])
        return self.solution(guidance, self.states(guidance, x0, order, guidance.model.logits, generator), trajectory)


def _after(x: Tensor, law: Law) -> Law:
    """The law of tokens for rows as far as they are known."""
    return lambda rows, c: law(x[rows][None], c)
