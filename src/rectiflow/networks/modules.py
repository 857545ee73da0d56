"""Networks written as `torch.nn.Module`s."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache, partial
from threading import get_ident
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, jvp, vmap

from rectiflow.networks.network import side_by_side
from rectiflow.ranges import among, at_least
from rectiflow.weights import Shapes, unpack

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROWS = 64  # whose activations stay in the cache


@dataclass(frozen=True)
class Modules(ABC):
    """One `nn.Module` for each seed, computed seed after seed.

    A seed's numbers are what they would be alone, by construction: convolutions and normalisations have no batched form that
    keeps each seed's bits (of fifteen forward passes under `torch.vmap` at width 100 three changed a bit by company, of
    fifteen gradients eight). Subclasses are frozen dataclasses: their fields are the description, `module` builds from it.
    The module's `forward(rows)` takes rows `(batch, inputs)` and returns `(batch, outputs)`.

    `dtype` is what products and convolutions are computed in, by autocast; weights and outputs stay in float32. Without
    `fused` the module keeps to operations that have derivatives of every kind and can be exported, and is built at once:
    within a transform of torch.func none can be.
    """

    inputs: int
    outputs: int
    dtype: str = field(default="float32", kw_only=True)
    fused: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        at_least(1, inputs=self.inputs, outputs=self.outputs)
        among(DTYPES, dtype=self.dtype)
        for each in fields(self):
            if isinstance(value := getattr(self, each.name), list):
                object.__setattr__(self, each.name, tuple(value))
        if not self.fused:
            _ = self._skeleton

    @abstractmethod
    def module(self) -> nn.Module:
        """A new module; its initial weights come from torch's global generator, as in every module."""

    @property
    def _skeleton(self) -> nn.Module:
        return _skeleton(self, get_ident())

    @cached_property
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
        """The outputs `(seeds, outputs, batch)` for columns `(seeds, inputs, batch)`, seed after seed."""
        return self._of("", theta, columns)

    def _of(self, part: str, theta: Tensor, columns: Tensor) -> Tensor:
        """What a part of the module, by its name, makes of columns. Where no gradient is asked for on a CPU, some at a
        time.
        """
        module, prefix = self._skeleton.get_submodule(part), part and f"{part}."
        kind, lower = columns.device.type, self.dtype != "float32"
        few = self.fused and kind == "cpu" and not torch.is_grad_enabled()
        seeds = []
        with torch.autocast(kind, DTYPES[self.dtype] if lower else None, enabled=lower):
            for mine, column in zip(theta.split(1), columns, strict=True):
                weights = {
                    name.removeprefix(prefix): weight.squeeze(0)
                    for name, weight in unpack(mine, self.shapes).items()
                    if name.startswith(prefix)
                }
                batches: Sequence[Tensor] = column.mT.split(ROWS) if few else [column.mT]
                seeds.append(torch.cat([functional_call(module, weights, (rows,)) for rows in batches]).to(theta.dtype))
        return torch.stack(seeds).mT

    def tangents(self, theta: Tensor, columns: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs for columns `(seeds, inputs, batch)` and their derivatives along directions `(k, seeds, inputs,
        batch)`, `(k, seeds, outputs, batch)`, by torch's forward mode, seed after seed.
        """
        plain = replace(self, fused=False)

        def of_seed(mine: Tensor, column: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
            value = partial(plain.through, mine)
            values, found = vmap(lambda each: cast(tuple[Tensor, Tensor], jvp(value, (column,), (each,))))(along)
            return values[0], found  # the same for all directions

        split = zip(theta.split(1), columns.split(1), directions.split(1, 1), strict=True)
        values, found = zip(*(of_seed(*mine) for mine in split), strict=True)
        return torch.cat(values), torch.cat(found, 1)

    def __call__(self, theta: Tensor, x: Tensor, *times: Tensor) -> Tensor:
        """The outputs `(seeds, batch, outputs)` for points x `(seeds, batch, dim)` and times `()` or `(seeds, batch)`."""
        return self.through(theta, self.columns(x, *times)).mT


@lru_cache(maxsize=64)
def _skeleton(network: Modules, thread: int) -> nn.Module:
    """The module of a network, and of its like, for a thread: while it is called it has the weights that are passed in."""
    with torch.random.fork_rng(devices=[]):
        return network.module().requires_grad_(False)
