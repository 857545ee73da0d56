"""Training that goes on where it was stopped: all that it has come to, between two of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor


class State(NamedTuple):
    """Named tensors and plain values, from which a training goes on to the same numbers. Tensors may be the training's own,
    which it goes on to change.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]


class Keeper(Protocol):
    """Keeps a state of one training for another of the same objective, data, generators and options."""

    def load(self) -> State | None:
        """What was kept last, if anything was."""
        ...

    def offer(self, state: Callable[[], State]) -> None:
        """Hear, every few steps, that a state can be kept, which `state()` makes."""
        ...
