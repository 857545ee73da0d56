"""Time-conditioned networks `v(t, x)`, for many seeds at once.

A network is a frozen description (sizes) whose weights are passed in as one vector a seed, `theta` `(seeds, size)`:
`network(theta, t, x)`. Training and sampling thus use one batched product for all seeds.

A seed's numbers must not depend on who computes beside it. Vectorised transcendental functions treat the tail of a tensor
differently from its body, and where the tail falls depends on the number of seeds (measured: a batch of 100 x 100 differed
in the last bit): activations run seed by seed on a CPU, and the bias gradient is a product with ones, because the order of a
sum is the library's choice. Batched products keep each slice's result where the matrix library does not let memory alignment
choose the kernel: with MKL, that takes MKL_CBWR=AVX2,STRICT in the environment, which costs nothing measurable here.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rectiflow.interpolants import Interpolant, Linear
from rectiflow.predictions import convert

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Activation:
    """A nonlinearity h(a) and the `gain` that a layer's weights need, in deviations of 1 / sqrt(fan-in), to keep the size of
    what passes through.

    `forward(a, out)` writes h; `backward(slope, kept, out)` writes slope h'(a), where `kept` is h itself if `by_value`
    (out may then be a: nothing else is needed later), otherwise a.
    """

    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor], object]
    gain: float
    by_value: bool


aten = torch.ops.aten
ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805  # of SELU: they keep mean 0 and variance 1 (arXiv 1706.02515)


def _silu(a: Tensor, out: Tensor) -> None:
    """`a / (1 + exp(-a))`."""
    for part, h in _each(a, out):
        aten.silu.out(part, out=h)


def _silu_slope(slope: Tensor, a: Tensor, out: Tensor) -> None:
    for part, kept, to in _each(slope, a, out):
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
    for (part,) in _each(low):
        torch.exp2(part, out=part)
    low.sub_(1).mul_(SCALE * ALPHA)
    torch.clamp(a, min=0, out=out).mul_(SCALE).add_(low)


def _selu_slope(slope: Tensor, h: Tensor, out: Tensor) -> None:
    """`SCALE` above 0, `h + SCALE ALPHA` below."""
    for part, kept, to in _each(slope, h, out):
        aten.elu_backward.grad_input(part, ALPHA, SCALE, 1.0, True, kept, grad_input=to)


ACTIVATIONS = {
    "silu": Activation(_silu, _silu_slope, math.sqrt(2), by_value=False),
    "selu": Activation(_selu, _selu_slope, 1.0, by_value=True),
}


def _each(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The seeds' parts; everything at once where that gives the same bits: where no part has a tail, in one thread."""
    first = tensors[0]
    tails = first.device.type == "cpu" and (first[0].numel() % VECTOR or torch.get_num_threads() > 1)
    return zip(*(tensor.unbind() for tensor in tensors), strict=True) if tails else [tensors]


VECTOR = 64  # twice what the widest registers hold: torch's loops take two of them at a time


@dataclass(frozen=True)
class MLP:
    """A perceptron on `(x, t)`.

    `dim` is the dimension of x, `width` that of each of the `depth` hidden layers, `activation` one of ACTIVATIONS.
    """

    dim: int
    width: int = 64
    depth: int = 4
    activation: str = "silu"

    def __post_init__(self) -> None:
        for name in ("dim", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")

    @cached_property
    def shapes(self) -> Shapes:
        """Names and shapes of one seed's weights, in the order they are stored."""
        sizes = [self.dim + 1, *[self.width] * self.depth, self.dim]
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

    def inputs(self, t: Tensor, x: Tensor) -> Tensor:
        """What `through` takes for times `()` or `(..., batch)` and points `(..., batch, dim)`: `(..., dim + 1, batch)`."""
        return torch.cat([x.mT, t.expand(x.shape[:-1])[..., None, :]], -2)

    def through(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """v `(seeds, dim, batch)` for inputs `(seeds, dim + 1, batch)`.

        Where no gradient is asked for, some columns at a time, so that their activations stay in the cache.
        """
        activation = ACTIVATIONS[self.activation]
        if torch.is_grad_enabled():
            return _Perceptron.apply(theta, inputs, self.shapes, activation)
        weights = list(unpack(theta, self.shapes).values())
        return torch.cat([_last(_layers(weights, part, activation)) for part in inputs.split(COLUMNS, -1)], -1)

    def __call__(self, theta: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v at time t `()` or `(seeds, batch)` and points x `(seeds, batch, dim)`; shaped like x."""
        return self.through(theta, self.inputs(t, x)).mT


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
    def forward(ctx, theta: Tensor, h: Tensor, shapes: Shapes, activation: Activation) -> Tensor:  # noqa: ANN001
        *layers, (v, _) = _layers(list(unpack(theta, shapes).values()), h, activation)
        values, kept = zip(*layers, strict=True)
        ctx.save_for_backward(theta, h, *values, *kept)  # where the slope follows from the value, the same tensors twice
        ctx.shapes, ctx.activation = shapes, activation
        return v

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:  # noqa: ANN001
        theta, *saved = ctx.saved_tensors
        layers = len(ctx.shapes) // 2
        inputs, kept = saved[:layers], saved[layers:]
        weights = list(unpack(theta, ctx.shapes).values())
        grads = []
        ones = grad.new_ones(grad.shape[0], 1, grad.shape[-1])
        for i in reversed(range(layers)):
            grads += [torch.bmm(ones, grad.mT).flatten(1), _sum_of_products(inputs[i], grad).flatten(1)]
            if i or ctx.needs_input_grad[1]:
                grad = torch.bmm(weights[2 * i], grad)
            if i:
                ctx.activation.backward(grad, kept[i - 1], grad)
        return torch.cat(grads[::-1], 1), grad if ctx.needs_input_grad[1] else None, None, None


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """`a b^T` `(seeds, m, n)`, the longer side first and no vector second: with these, MKL splits the sum over points by how
    many seeds there are.
    """
    m, n = a.shape[1], b.shape[1]
    return torch.bmm(b, a.mT).mT if m < n or n == 1 else torch.bmm(a, b.mT)


def pack(weights: dict[str, Tensor]) -> Tensor:
    """All weights of one seed as one vector, so that an optimiser step is one kernel."""
    return torch.cat([weight.flatten() for weight in weights.values()])


def unpack(theta: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views into `(seeds, size)` vectors, one `(seeds, *shape)` tensor for each name."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    return {
        name: part.unflatten(1, shape) for (name, shape), part in zip(shapes.items(), theta.split(sizes, 1), strict=True)
    }


@dataclass(frozen=True)
class Frame:
    """The units a network works in: `speed * network(t, (x - shift) / scale)`, one set for each seed.

    Points are centred and brought to unit variance, what is predicted to unit size (cf. the preconditioning of Karras et
    al., arXiv 2206.00364); the constants come from the seed's own pairs and stay fixed.
    """

    shift: Tensor
    scale: Tensor
    speed: Tensor

    @classmethod
    def of(cls, x0: Tensor, x1: Tensor, target: Tensor | None = None) -> "Frame":
        """The frame of pairs and of what is predicted for them (the move), all `(seeds, n, dim)`. A constant has scale 1."""
        rows = [torch.cat(ends) for ends in zip(x0.unbind(), x1.unbind(), strict=True)]
        shift = torch.stack([points.mean(0, keepdim=True) for points in rows])
        scale = torch.stack([_size(points - points.mean(0)) for points in rows])
        speed = torch.stack([_size(part) for part in (x1 - x0 if target is None else target).unbind()])
        return cls(shift, scale, speed)


def _size(x: Tensor) -> Tensor:
    """Root mean square of a sample, shape (1, 1), or one where that is zero."""
    size = x.square().mean().sqrt().reshape(1, 1)
    return torch.where(size > 0, size, 1.0)


EPS = 1e-3  # how far from 0 and 1 another prediction than the velocity is asked: there it may not determine the velocity


@dataclass(frozen=True)
class Velocity:
    """A trained field of a path: `v(t, x)` for x `(seeds, batch, dim)` and t `()` or `(seeds, batch)`.

    The network predicts what `prediction` names among PREDICTIONS; called, it is the velocity whatever that is.
    """

    network: MLP
    theta: Tensor
    frame: Frame
    path: Interpolant = Linear()  # noqa: RUF009  frozen
    prediction: str = "velocity"

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        if self.prediction == "velocity":
            return self.predict(t, x)
        t = t.clamp(EPS, 1 - EPS)
        return convert(self.path, t, x, self.predict(t, x), self.prediction, "velocity")

    def predict(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network is trained on."""
        return self.frame.speed * self.network.through(self.theta, self.inputs(t, x)).mT

    def inputs(self, t: Tensor, x: Tensor) -> Tensor:
        """What the network sees; t and x may have axes before that of the seeds."""
        frame, size = self.frame, self.path.size(t)
        x = (x - frame.shift) / frame.scale
        return self.network.inputs(t, x if size is None else x / size[..., None])

    def seed(self, k: int) -> "Velocity":
        """The field of the k-th seed alone (its seed axis has length one)."""
        row = slice(k, k + 1)
        frame = Frame(self.frame.shift[row], self.frame.scale[row], self.frame.speed[row])
        return replace(self, theta=self.theta[row], frame=frame)

    def to(self, device: torch.device | str) -> "Velocity":
        frame = Frame(*(part.to(device) for part in (self.frame.shift, self.frame.scale, self.frame.speed)))
        return replace(self, theta=self.theta.to(device), frame=frame)


VELOCITIES: dict[str, type[MLP]] = {"mlp": MLP}
