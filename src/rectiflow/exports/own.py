"""Units of a table as operations of a graph: what `rectiflow.units` says with arrays, with tensors in double precision."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.units import Logit, Scaled, Units


@dataclass(frozen=True)
class Own:
    """`x = into(own)`, `own = back(x)`, and `d own / dt = moved(x, v)` for the velocity `v = dx / dt`; all in float64."""

    into: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    moved: Callable[[Tensor, Tensor], Tensor]


def _scaled(units: Scaled) -> Own:
    """`own = shift + scale x`."""
    shift, scale = (torch.tensor(list(numbers), dtype=torch.float64) for numbers in (units.shift, units.scale))
    return Own(lambda own: (own - shift) / scale, lambda x: x * scale + shift, lambda _, v: v * scale)


def _logit(units: Logit) -> Own:
    """`own = levels (s - alpha) / (1 - 2 alpha)`, s the logistic function of x."""
    alpha, width = units.alpha, units.levels / (1 - 2 * units.alpha)

    def into(own: Tensor) -> Tensor:
        share = alpha + own / width
        return share.log() - (1 - share).log()

    def moved(x: Tensor, v: Tensor) -> Tensor:
        return v * (width * torch.sigmoid(x) * torch.sigmoid(-x))

    return Own(into, lambda x: (torch.sigmoid(x) - alpha) * width, moved)


OWN: dict[type, Callable[..., Own]] = {Scaled: _scaled, Logit: _logit}


def own(units: Units) -> Own:
    """The operations of a table's units. Raises ValueError for units that are no row of OWN."""
    if type(units) not in OWN:
        known = ", ".join(kind.__name__ for kind in OWN)
        raise ValueError(f"units: {type(units).__name__} cannot be exported; those that can: {known}")
    return OWN[type(units)](units)
