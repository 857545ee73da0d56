"""Vector quantisation (van den Oord et al., arXiv 1711.00937), with a codebook that follows the encoder."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rectiflow.models.quantised import MOST_CODES, Coded, Quantised, nearest, picked
from rectiflow.ranges import at_least, inside


@dataclass(frozen=True)
class VQ(Quantised):
    """A code is the nearest of `codes` vectors e to what the encoder says, h. Training lowers `|sg h - e|^2 + commitment
    |h - sg e|^2` as well, sg without gradient.

    Vectors of their own are left behind as the encoder moves, and codes die. Here they are what the encoder says of
    anchors, points of the data that are as far apart as can be to begin with, and are weights: all codes stay in use.
    """

    codes: int = 32
    commitment: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        inside(f"[1, {MOST_CODES}]", codes=self.codes)
        at_least(0, commitment=self.commitment)

    @property
    def others(self) -> dict[str, Tensor]:
        decoder: Any = self.network
        return {**super().others, "anchors": torch.zeros(decoder.outputs, self.codes)}

    def start(self, x: Tensor) -> None:
        self.part("anchors").copy_(torch.stack([apart(rows, self.codes) for rows in self.columns(x).mT]).mT)

    def book(self) -> Tensor:
        """Without gradients for the encoder, which the commitment moves alone."""
        return self.encoder.through(self.part("encoder").detach(), self.part("anchors").contiguous()).mT

    def quantise(self, h: Tensor) -> Coded:
        book = self.book()
        codes = nearest(h, book)
        e = picked(book, codes).mT.contiguous()
        extra = ((h.detach() - e).square() + self.commitment * (h - e.detach()).square()).sum(1)
        return Coded(codes, h + (e - h).detach(), extra)


def apart(rows: Tensor, count: int) -> Tensor:
    """So many rows `(n, dim)`, each the farthest from those before it, and the first one first."""
    places = [0]
    gap = (rows - rows[0]).square().sum(1)
    while len(places) < count:
        places.append(int(gap.argmax()))
        gap = torch.minimum(gap, (rows - rows[places[-1]]).square().sum(1))
    return rows[places]
