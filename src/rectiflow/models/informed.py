"""Models that are told the condition of what they draw: a class, or further numbers."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.models import MODELS
from rectiflow.models.model import Model
from rectiflow.pairs import Pairs, Points


class Informed(Model):
    """A model whose network sees the condition as so many further numbers, `conditions`."""

    conditions: int

    conditional: ClassVar[bool] = True

    @abstractmethod
    def under(self, conditions: Tensor) -> Any:
        """What draws with these conditions `(seeds, batch, conditions)` come from."""

    def given(self, conditions: Tensor | None) -> Any:
        """The model of draws with these conditions `(seeds, batch, conditions)`. Raises ValueError for another number."""
        if conditions is None:
            return self
        if conditions.shape[-1] != self.conditions:
            raise ValueError(f"conditions: {conditions.shape[-1]} numbers; the model has learned {self.conditions}")
        return self.under(conditions)


class Forgetful(Informed):
    """One that sees zeros where nothing is given. In training the condition is left out of a share of the rows, the
    `dropout`, so that without one it is the model of all together, which guidance needs (Ho and Salimans, arXiv 2207.12598).
    """

    dropout: float

    def told(self, data: Points | Pairs, rows: Tensor, generator: Generator) -> Tensor:
        """The conditions in training of one seed's rows, `(*rows, conditions)`, of which a share is left out at random."""
        kept = torch.rand(rows.shape, generator=generator) >= self.dropout
        given = data.given(rows)
        assert given is not None
        return given * kept[..., None].to(given)


def needed(model: type[Model], data: Points | Pairs) -> int:
    """How many numbers tell the condition of a row. Raises ValueError where there is nothing to learn one from."""
    if not data.conditions:
        raise ValueError(f"model: {MODELS.name(model)} needs a data set with labels or conditions, and this one has none")
    return data.conditions


def complete(model: type[Model], data: Points | Pairs) -> int:
    """The same. Raises ValueError where a seed's rows lack a class, too."""
    conditions = needed(model, data)
    if (missing := data.missing) is not None:
        raise ValueError(f"model: {MODELS.name(model)}: class {missing} of {data.classes} is in no row to learn from")
    return conditions
