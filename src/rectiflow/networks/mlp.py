"""Perceptrons, for many seeds at once: one batched product for all of them.

A seed's numbers must not depend on who computes beside it. Activations run seed by seed on a CPU (see `activations`), and
the bias gradient is a product with ones, because the order of a sum is the library's choice. Batched products keep each
slice's result where the matrix library does not let memory alignment choose the kernel: with MKL, that takes
MKL_CBWR=AVX2,STRICT in the environment, which costs nothing measurable here.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rectiflow.networks.activations import ACTIVATIONS, Activation
from rectiflow.networks.network import side_by_side
from rectiflow.networks.tangents import tangents
from rectiflow.ranges import among, at_least
from rectiflow.weights import Shapes, unpack


@dataclass(frozen=True)
class MLP:
    """A perceptron with `inputs` numbers in, points and times together, and `outputs` numbers out.

    `width` is that of each of the `depth` hidden layers, `activation` one of ACTIVATIONS. `fused` makes it one node of the
    graph, which is what training by first gradients wants; without, the same weights pass through plain operations, seed
    after seed, which have forward-mode and second derivatives and can be exported.
    """

    inputs: int
    outputs: int
    width: int = 64
    depth: int = 4
    activation: str = "silu"
    fused: bool = True

    def __post_init__(self) -> None:
        at_least(1, inputs=self.inputs, outputs=self.outputs, width=self.width, depth=self.depth)
        among(ACTIVATIONS, activation=self.activation)

    @cached_property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the order they are stored."""
        sizes = [self.inputs, *[self.width] * self.depth, self.outputs]
        pairs = list(enumerate(itertools.pairwise(sizes)))
        return {f"{i}.{part}": shape for i, (m, n) in pairs for part, shape in (("weight", (m, n)), ("bias", (1, n)))}

    def init(self, generator: Generator) -> dict[str, Tensor]:
        """One seed's initial weights: variance gain^2 / fan-in (He et al., arXiv 1502.01852), a small last layer."""
        weights, last, inner = {}, f"{self.depth}.", ACTIVATIONS[self.activation].gain
        for name, shape in self.shapes.items():
            if name.endswith("weight"):
                gain = 0.1 if name.startswith(last) else inner
                weights[name] = gain / math.sqrt(shape[0]) * torch.randn(shape, generator=generator)
            else:
                bound = 0.0 if name.startswith(last) else 1.0
                weights[name] = bound * (2 * torch.rand(shape, generator=generator) - 1)
        return weights

    def columns(self, x: Tensor, *times: Tensor) -> Tensor:
        """Points and times as columns."""
        return side_by_side(x, *times)

    def through(self, theta: Tensor, columns: Tensor) -> Tensor:
        """The outputs `(seeds, outputs, batch)` for columns `(seeds, inputs, batch)`.

        Where no gradient is asked for, some columns at a time, so that their activations stay in the cache.
        """
        if not self.fused:
            return torch.cat([self._plain(*mine) for mine in zip(theta.split(1), columns.split(1), strict=True)])
        activation = ACTIVATIONS[self.activation]
        if torch.is_grad_enabled():
            apply: Callable[..., Tensor] = _Perceptron.apply
            return apply(theta, columns, self.shapes, activation)
        weights = list(unpack(theta, self.shapes).values())
        return torch.cat([_last(_layers(weights, part, activation)) for part in columns.split(COLUMNS, -1)], -1)

    def _plain(self, theta: Tensor, h: Tensor) -> Tensor:
        """One seed's outputs by operations that torch knows how to differentiate in every way."""
        activation, weights = ACTIVATIONS[self.activation], list(unpack(theta, self.shapes).values())
        for i in range(0, len(weights), 2):
            h = torch.baddbmm(weights[i + 1].mT, weights[i].mT, h)
            if i + 2 < len(weights):
                h = activation.plain(h)
        return h

    def __call__(self, theta: Tensor, x: Tensor, *times: Tensor) -> Tensor:
        """The outputs `(seeds, batch, outputs)` for points x `(seeds, batch, dim)` and times `()` or `(seeds, batch)`."""
        return self.through(theta, self.columns(x, *times)).mT

    @torch.no_grad()
    def features(self, theta: Tensor, x: Tensor) -> Tensor:
        """What the last layer sees of points x, `(seeds, batch, width)`."""
        layers = _layers(list(unpack(theta, self.shapes).values()), self.columns(x), ACTIVATIONS[self.activation])
        *_, (found, _), _ = layers
        return found.mT

    def tangents(self, theta: Tensor, columns: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs for columns `(seeds, inputs, batch)` and their derivatives along directions `(k, seeds, inputs,
        batch)`, `(k, seeds, outputs, batch)`.
        """
        return tangents(list(unpack(theta, self.shapes).values()), ACTIVATIONS[self.activation], columns, directions)


COLUMNS = 2048


def _layers(weights: list[Tensor], h: Tensor, activation: Activation) -> Iterator[tuple[Tensor, Tensor]]:
    """Every layer's value, v last, and what the slope of the activation before it needs."""
    last = len(weights) - 2
    for i in range(0, last + 2, 2):
        a = torch.baddbmm(weights[i + 1].mT, weights[i].mT, h)
        if i == last:
            yield a, a
            return
        h = a if activation.by_value else torch.empty_like(a)
        activation.forward(a, h)
        yield h, a


def _last(layers: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
    """The last value; those before it are let go on the way."""
    return deque(layers, maxlen=1)[0][0]


class _Perceptron(Function):
    """Products with activations between, and their gradients, as one node of the graph: at these sizes a node costs as much
    as its arithmetic (measured at three seeds, width 64, batch 128: 2.2 ms a step with a node for every product, 1.1 ms so).

    A column is a point: products with the narrow first and last layers then take a fifth of the time they take where a row
    is one (2 x 64 x 256: 50 us against 300 for sixteen seeds).
    """

    @staticmethod
    def forward(ctx: Any, theta: Tensor, h: Tensor, shapes: Shapes, activation: Activation) -> Tensor:
        *layers, (v, _) = _layers(list(unpack(theta, shapes).values()), h, activation)
        values, kept = zip(*layers, strict=True)
        ctx.save_for_backward(theta, h, *values, *kept)  # where the slope follows from the value, the same tensors twice
        ctx.shapes, ctx.activation = shapes, activation
        return v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        theta, *saved = ctx.saved_tensors
        layers = len(ctx.shapes) // 2
        inputs, kept = saved[:layers], saved[layers:]
        weights = list(unpack(theta, ctx.shapes).values())
        grads = []
        ones = grad.new_ones(max(grad.shape[0], 2), 1, grad.shape[-1])
        for i in reversed(range(layers)):
            grads += [_sum_over_points(grad, ones), _sum_of_products(inputs[i], grad).flatten(1)]
            if i or ctx.needs_input_grad[1]:
                grad = torch.bmm(weights[2 * i], grad)
            if i:
                ctx.activation.backward(grad, kept[i - 1], grad)
        return torch.cat(grads[::-1], 1), grad if ctx.needs_input_grad[1] else None, None, None


def _sum_over_points(grad: Tensor, ones: Tensor) -> Tensor:
    """The sum of `(seeds, n, batch)` over its points, `(seeds, n)`, by ones `(seeds, 1, batch)`, of which there are two at
    least. A lone seed gets company: alone its product is one of a vector, whose sum MKL splits in another way on some
    processors.
    """
    if grad.shape[0] > 1:
        return torch.bmm(ones, grad.mT).flatten(1)
    return torch.bmm(ones, grad.expand(2, -1, -1).mT)[0]


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """`a b^T` `(seeds, m, n)`, the longer side first and no vector second: with these, MKL splits the sum over points by how
    many seeds there are.
    """
    m, n = a.shape[1], b.shape[1]
    return torch.bmm(b, a.mT).mT if 1 < m < n or n == 1 else torch.bmm(a, b.mT)
