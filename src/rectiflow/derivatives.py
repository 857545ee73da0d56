"""Derivatives of a velocity field along directions."""

from collections.abc import Callable
from typing import cast

from torch import Tensor
from torch.func import jvp, vmap


def slopes(field: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The velocity at x `(..., n, dim)`, and its derivatives along directions `(k, ..., n, dim)`, shaped like them, by
    torch's forward mode. The field must be one of operations that have it.
    """

    def along(direction: Tensor) -> tuple[Tensor, Tensor]:
        return cast(tuple[Tensor, Tensor], jvp(lambda x: field(t, x), (x,), (direction,)))

    v, found = vmap(along)(directions)
    return v[0], found  # the same for all directions
