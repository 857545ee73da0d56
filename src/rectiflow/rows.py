"""Rows of a table that is held once, by their places in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Size, Tensor


@dataclass(frozen=True)
class Rows:
    """What `table[places]` would be, `(seeds, n, dim)`, and is made of only where it is asked for.

    The table is one for all seeds, `(m, dim)`, or has one for each, `(seeds, m, dim)`; its numbers may be of another type
    than those it gives, `dtype`. `rows[k]` is the k-th seed's, `(n, dim)`, whose own index, of any shape, gives a tensor.
    """

    table: Tensor
    places: Tensor
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, x: Tensor | Rows, places: Tensor) -> Rows:
        """The rows of x `(seeds, m, dim)` at each seed's places `(seeds, n)`."""
        if isinstance(x, Rows):
            return cls(x.table, x.places.gather(1, places), x.dtype)
        return cls(x, places, torch.float32 if x.is_floating_point() else x.dtype)

    @property
    def shape(self) -> Size:
        """`(seeds, n, dim)`, or `(n, dim)` of one seed."""
        return Size((*self.places.shape, self.table.shape[-1]))

    @property
    def device(self) -> torch.device:
        """Where the table is."""
        return self.table.device

    def __len__(self) -> int:
        return len(self.places)

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on another device."""
        return Rows(self.table.to(device), self.places.to(device), self.dtype)

    def unbind(self) -> tuple[Rows, ...]:
        """Each seed's."""
        return tuple(self[k] for k in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Rows: ...

    @overload
    def __getitem__(self, index: Tensor | slice | tuple[slice, slice]) -> Tensor: ...

    def __getitem__(self, index: int | Tensor | slice | tuple[slice, slice]) -> Tensor | Rows:
        if isinstance(index, int):
            return Rows(self.table if self.table.ndim == 2 else self.table[index], self.places[index], self.dtype)
        if isinstance(index, tuple) or self.places.ndim == 2:
            seeds, part = index if isinstance(index, tuple) else (index, slice(None))
            assert isinstance(seeds, slice)
            return torch.stack([self[k][part] for k in range(len(self))[seeds]])
        return self.table[self.places[index]].to(self.dtype)
