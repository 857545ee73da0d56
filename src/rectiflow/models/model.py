"""What every trained model is, and what some can do: fields, one-pass maps, densities, laws of tokens.

A model has one set of weights for each seed: `weights` names a tensor `(seeds, size)` for each player of the objective that
trained it (`theta` where there is one player alone). Where all seeds are computed at once a seed axis leads, and points are
`(seeds, batch, dim)`. A class here is either an interface or complete; fields beyond the first three are its options.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from rectiflow.derivatives import slopes
from rectiflow.interpolants import Interpolant
from rectiflow.models.frame import Frame
from rectiflow.networks.network import Network

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Model(ABC):
    """A trained model: its network, its weights by player, and the units that the network works in.

    Where other fields are objects, `parts` says which, each with the table that it is from. `example` is the shape of a row
    on which options are tried that belong to no data set yet, `example_vocabulary` that of its tokens, for models of such.
    `conditional` says that it asks for the condition of what is drawn, `whole` that this begins with a state of which x is
    the next.
    """

    network: Network
    weights: Weights
    frame: Frame

    parts: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    example: ClassVar[tuple[int, ...]] = (2,)
    example_vocabulary: ClassVar[tuple[int, ...]] = ()
    conditional: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    @property
    def theta(self) -> Tensor:
        """The weights of a model with one player."""
        return self.weights["theta"]

    def seed(self, k: int) -> Self:
        """The model of the k-th seed alone (its seed axis has length one)."""
        row = slice(k, k + 1)
        return replace(self, weights={name: part[row] for name, part in self.weights.items()}, frame=self.frame.seed(k))

    def copied(self) -> Self:
        """The same with weights of its own, which training may change."""
        return replace(self, weights={name: part.clone() for name, part in self.weights.items()})

    def given(self, conditions: Tensor | None) -> Any:
        """The model of draws with these conditions `(seeds, batch, conditions)`, as `Points.given` has them: itself, unless
        it is conditional.
        """
        return self

    def plain(self) -> Self:
        """The same through operations that have derivatives of every kind, where its network is fused."""
        network: Any = self.network
        return replace(self, network=replace(network, fused=False)) if getattr(network, "fused", False) else self

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, weights={n: part.to(device) for n, part in self.weights.items()}, frame=self.frame.to(device))


class Field(Model):
    """A velocity field `v(t, x)` that carries its path's source to its target from t = 0 to t = 1."""

    path: Interpolant

    @abstractmethod
    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """v, shaped like x `(seeds, batch, dim)`; t is `()` or `(seeds, batch)`."""

    def slopes(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """v and its derivatives along directions `(k, seeds, batch, dim)`, shaped like them."""
        return slopes(self.plain(), t, x, directions)


class Jumps(Model):
    """Maps between any two times of one flow, `X_{s,t}(x) = x + (t - s) u(s, t, x)`."""

    @abstractmethod
    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """`X_{s,t}(x)`, shaped like x `(seeds, batch, dim)`; s and t are `()` or `(seeds, batch)`."""


class Maps(Model):
    """A map from the source to the target in one pass."""

    @property
    def passes(self) -> int:
        """How often `push` calls each network, one after the other."""
        return 1

    @abstractmethod
    def push(self, x0: Tensor) -> Tensor:
        """x1 for x0 `(seeds, batch, dim)`."""


class Density(Model):
    """A law with a density."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """`log p(x)` in nats and in the units of x, `(seeds, batch)` for x `(seeds, batch, dim)`."""


class Tokens(Model):
    """A law of rows of tokens, integers x `(seeds, batch, dim)` of which column i has the values 0 to vocabulary[i] - 1.

    `exact` says that `log_prob` is known; of the others there is a bound alone.
    """

    vocabulary: tuple[int, ...]

    example_vocabulary: ClassVar[tuple[int, ...]] = (2, 2)

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether `log_prob` can be computed."""

    @abstractmethod
    def log_prob(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """`log p(x | c)` in nats, `(seeds, batch)`, for x `(seeds, batch, dim)` and conditions `(seeds, batch, conditions)`,
        or none. Raises ValueError for what is no token, and where it is not known.
        """

    @abstractmethod
    def likelihoods(
        self, x: Tensor, generators: Sequence[Generator], samples: int, c: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What is known of `-log p(x | c)`, in nats, `(seeds, batch)` each, for x `(seeds, batch, dim)`: `nll`, that itself
        where it is; `nll_ordered`, that of tokens that are drawn column after column, where these can be; `elbo`, a bound
        from above by so many `samples` of each row, with their standard error, `elbo_error`, where there is one.
        """
