"""Nonlinearities of networks, with their slopes, seed by seed where that decides about bits.

Vectorised transcendental functions treat the tail of a tensor differently from its body, and where the tail falls depends on
the number of seeds (measured: a batch of 100 x 100 differed in the last bit): on a CPU they run seed by seed.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """A nonlinearity h(a) and the `gain` that a layer's weights need, in deviations of 1 / sqrt(fan-in), to keep the size of
    what passes through.

    `forward(a, out)` writes h; `backward(slope, kept, out)` writes slope h'(a), where `kept` is h itself if `by_value`
    (out may then be a: nothing else is needed later), otherwise a. `plain(a)` is h and `plain_slope(a)` is h'(a) by
    operations that have derivatives of every kind.
    """

    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor], object]
    gain: float
    by_value: bool
    plain: Callable[[Tensor], Tensor]
    plain_slope: Callable[[Tensor], Tensor]


aten = torch.ops.aten
ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805  # of SELU: they keep mean 0 and variance 1 (arXiv 1706.02515)


def _silu(a: Tensor, out: Tensor) -> None:
    """`a / (1 + exp(-a))`."""
    for part, h in parts(a, out):
        aten.silu.out(part, out=h)


def _silu_slope(slope: Tensor, a: Tensor, out: Tensor) -> None:
    for part, kept, to in parts(slope, a, out):
        aten.silu_backward.grad_input(part, kept, grad_input=to)


def _selu(a: Tensor, out: Tensor) -> None:
    """`SCALE a` above 0, `SCALE ALPHA (exp(a) - 1)` below, by powers of two: torch's own takes twice the time (355 against
    170 us for 2^18 numbers), and is half of what sampling costs. What `exp(a) - 1` loses of small a, an addition loses too.
    On a GPU one call takes less than eight.
    """
    if a.device.type != "cpu":
        aten.elu.out(a, ALPHA, SCALE, 1.0, out=out)
        return
    low = a.clamp(max=0).mul_(math.log2(math.e))
    for (part,) in parts(low):
        torch.exp2(part, out=part)
    low.sub_(1).mul_(SCALE * ALPHA)
    torch.clamp(a, min=0, out=out).mul_(SCALE).add_(low)


def _selu_slope(slope: Tensor, h: Tensor, out: Tensor) -> None:
    """`SCALE` above 0, `h + SCALE ALPHA` below."""
    for part, kept, to in parts(slope, h, out):
        aten.elu_backward.grad_input(part, ALPHA, SCALE, 1.0, True, kept, grad_input=to)


def _relu(a: Tensor, out: Tensor) -> None:
    """`max(a, 0)`: exact, so that no part of a tensor differs from another."""
    torch.clamp(a, min=0, out=out)


def _relu_slope(slope: Tensor, h: Tensor, out: Tensor) -> None:
    """1 above 0."""
    torch.mul(slope, h > 0, out=out)


def _plain_silu_slope(a: Tensor) -> Tensor:
    """`s (1 + a (1 - s))` with s the logistic function of a."""
    s = torch.sigmoid(a)
    return s * (1 + a * (1 - s))


def _plain_selu(a: Tensor) -> Tensor:
    return SCALE * (a.clamp(min=0) + ALPHA * (torch.exp2(a.clamp(max=0) * math.log2(math.e)) - 1))


def _plain_selu_slope(a: Tensor) -> Tensor:
    return SCALE * torch.where(a > 0, 1.0, ALPHA * torch.exp2(a.clamp(max=0) * math.log2(math.e)))


ACTIVATIONS = {
    "silu": Activation(
        _silu, _silu_slope, math.sqrt(2), by_value=False, plain=torch.nn.functional.silu, plain_slope=_plain_silu_slope
    ),
    "relu": Activation(
        _relu, _relu_slope, math.sqrt(2), by_value=True, plain=torch.relu, plain_slope=lambda a: (a > 0).to(a.dtype)
    ),
    "selu": Activation(_selu, _selu_slope, 1.0, by_value=True, plain=_plain_selu, plain_slope=_plain_selu_slope),
}


def seedwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of every number, of x `(seeds, ...)`, to the bits that each seed has alone. It may be differentiated."""
    return torch.stack([function(part) for part in x.unbind()]) if has_tails(x) else function(x)


def parts(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The seeds' parts; everything at once where that gives the same bits."""
    return zip(*(tensor.unbind() for tensor in tensors), strict=True) if has_tails(tensors[0]) else [tensors]


def has_tails(x: Tensor) -> bool:
    """Whether a seed's bits may depend on the others when all are computed at once: unless no part has a tail, in one
    thread.
    """
    return x.device.type == "cpu" and (x[0].numel() % VECTOR > 0 or torch.get_num_threads() > 1)


VECTOR = 64  # twice what the widest registers hold: torch's loops take two of them at a time
