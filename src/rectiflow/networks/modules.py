"""Networks written as `torch.nn.Module`s."""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from rectiflow.networks.network import side_by_side
from rectiflow.weights import Shapes, unpack


class Modules(ABC):
    """One `nn.Module` for each seed, computed seed after seed.

    A seed's numbers are what they would be alone, by construction: convolutions and normalisations have no batched form that
    keeps each seed's bits (of fifteen forward passes under `torch.vmap` at width 100 three changed a bit by company, of
    fifteen gradients eight). Subclasses are frozen dataclasses: their fields are the description, `module` builds from it.
    The module's `forward(x, *times)` takes x `(batch, dim)` and times `(batch,)`, and returns `(batch, outputs)`.
    """

    @property
    @abstractmethod
    def times(self) -> int:
        """How many times `forward` takes after x."""

    @abstractmethod
    def module(self) -> nn.Module:
        """A new module; its initial weights come from torch's global generator, as in every module."""

    @cached_property
    def _skeleton(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return self.module().requires_grad_(False)

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the module's order."""
        return {name: tuple(weight.shape) for name, weight in self._skeleton.named_parameters()}

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights: the module's own, drawn after the generator has chosen where to begin."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return {name: weight.detach() for name, weight in self.module().named_parameters()}

    def columns(self, x: Tensor, *times: Tensor) -> Tensor:
        """Points and times as columns."""
        return side_by_side(x, *times)

    def through(self, theta: Tensor, columns: Tensor) -> Tensor:
        """The outputs `(seeds, outputs, batch)` for columns `(seeds, dim + times, batch)`, seed after seed."""
        weights, dim = unpack(theta, self.shapes), columns.shape[-2] - self.times
        seeds = []
        for k, column in enumerate(columns):
            mine = {name: weight[k] for name, weight in weights.items()}
            seeds.append(functional_call(self._skeleton, mine, (column[:dim].mT, *column[dim:])).mT)
        return torch.stack(seeds)

    def __call__(self, theta: Tensor, x: Tensor, *times: Tensor) -> Tensor:
        """The outputs `(seeds, batch, outputs)` for points x `(seeds, batch, dim)` and times `()` or `(seeds, batch)`."""
        return self.through(theta, self.columns(x, *times)).mT
