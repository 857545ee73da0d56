"""What models of tokens have in common: a network that sees tokens and says logits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from rectiflow.models.frame import Frame
from rectiflow.models.informed import Forgetful, complete
from rectiflow.models.model import Tokens
from rectiflow.networks.network import Build, Network
from rectiflow.pairs import Points
from rectiflow.ranges import inside
from rectiflow.tokens import check_vocabulary, hot, spread
from rectiflow.weights import initial


@dataclass(frozen=True)
class TokenNetwork(Tokens):
    """A law of tokens by a network of which a row is, one below the other: a one among zeros for every token, zeros alone
    for a hidden one; a time, where the model has one; and the conditions, zeros where nothing is given. It says a logit for
    every value of every token.
    """

    vocabulary: tuple[int, ...] = ()
    conditions: int = 0

    causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))

    @classmethod
    def begin(cls, build: Build, data: Points, generators: Sequence[Generator], **options: Any) -> Self:
        """Untrained, for tokens as those of the data. Raises ValueError where these are none, and for a network that does
        not see tokens.
        """
        check_vocabulary(data.vocabulary)
        conditions = cls.known(data)
        empty = cls(
            build(inputs=1, outputs=1), {}, Frame.none(len(data.x), data.dim), data.vocabulary, conditions, **options
        )
        network = reading(build, data.vocabulary, empty.beside, cls.causal)
        theta = initial(network, generators).to(data.x.device)
        return replace(empty, network=network, weights={"theta": theta}, frame=empty.frame.to(data.x.device))

    @property
    def beside(self) -> int:
        """How many rows the network sees below the tokens."""
        return self.times + self.conditions

    @property
    def times(self) -> int:
        """How many times the network sees: none, unless the model says so."""
        return 0

    @classmethod
    def known(cls, data: Points) -> int:
        """How many numbers say the condition of a row: none."""
        return 0

    def told(self, data: Points, rows: Tensor, generator: Generator) -> Tensor:
        """The conditions in training of one seed's rows, `(*rows, conditions)`."""
        return torch.zeros((*rows.shape, 0), device=data.x.device)

    def says(self, xt: Tensor, times: Sequence[Tensor], c: Tensor | None) -> Tensor:
        """Logits `(seeds, batch, dim, V)` for tokens xt `(seeds, batch, dim)`, times and conditions."""
        c = xt.new_zeros((*xt.shape[:-1], self.conditions), dtype=torch.float32) if c is None else c
        columns = self.network.columns(hot(xt, self.vocabulary), *[t.float() for t in times], *c.unbind(-1))
        return spread(self.network.through(self.theta, columns).mT, self.vocabulary)


@dataclass(frozen=True)
class InformedTokens(Forgetful, TokenNetwork):
    """A law of tokens for every condition."""

    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        inside("[0, 1)", dropout=self.dropout)

    @classmethod
    def known(cls, data: Points) -> int:
        """Those of the data. Raises ValueError where it has none, or a seed's rows lack a class."""
        return complete(cls, data)

    def under(self, conditions: Tensor) -> "Asked":
        return Asked(self, conditions)


@dataclass(frozen=True)
class Asked:
    """A law of tokens whose draws are to be of conditions c `(seeds, batch, conditions)`."""

    model: InformedTokens
    c: Tensor


def reading(build: Build, vocabulary: tuple[int, ...], beside: int, causal: bool) -> Network:
    """The network for tokens and so many rows below them. Raises ValueError where it is to say of every token what those
    before it tell, and says of all what all tell.
    """
    size = sum(vocabulary)
    found: Any = build(inputs=size + beside, outputs=size)
    if causal and not hasattr(found, "causal"):
        name = type(found).__name__
        raise ValueError(f"network.name: {name} sees all tokens of a row at once; a causal one is needed: transformer")
    if hasattr(found, "vocabulary"):
        found = replace(found, vocabulary=vocabulary, causal=causal)
    _ = found.shapes
    network: Network = found
    return network
