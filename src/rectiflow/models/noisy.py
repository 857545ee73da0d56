"""Maps with a law around them."""

from abc import abstractmethod

from torch import Generator, Tensor

from rectiflow.models.model import Maps


class Noisy(Maps):
    """A map whose model is a law around it, p(x1 | x0), of which `push` gives the middle."""

    @abstractmethod
    def blur(self, x1: Tensor, generator: Generator) -> Tensor:
        """A draw of each point's law, for what `push` gave `(seeds, batch, dim)`."""
