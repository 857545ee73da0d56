"""Maps from any time of a flow to its end."""

from abc import abstractmethod

import torch
from torch import Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.models.model import Maps


class Finishing(Maps):
    """A map `X_{t,1}` from every time of a path's flow to the end of its span, in one pass."""

    path: Interpolant

    @abstractmethod
    def finish(self, t: Tensor, x: Tensor) -> Tensor:
        """`X_{t,1}(x)`, shaped like x `(seeds, batch, dim)`; t is `()` or `(seeds, batch)`."""

    def push(self, x0: Tensor) -> Tensor:
        """From one end of the path's span to the other."""
        return self.finish(torch.tensor(self.path.span[0], dtype=x0.dtype, device=x0.device), self.path.start(x0))
