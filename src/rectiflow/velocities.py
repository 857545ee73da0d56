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
from collections.abc import Callable
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
    """A nonlinearity: kernels `forward(a, out)` and `backward(slope, a, out)` that write into `out`, and the `gain` that a
    layer's weights need, in deviations of 1 / sqrt(fan-in), to keep the size of what passes through.
    """

    forward: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]
    gain: float


aten = torch.ops.aten
SELU = (1.6732632423543772, 1.0507009873554805, 1.0)  # alpha, scale: keeps mean 0 and variance 1 (arXiv 1706.02515)

ACTIVATIONS = {
    # a / (1 + exp(-a))
    "silu": Activation(
        lambda a, out: aten.silu.out(a, out=out),
        lambda slope, a, out: aten.silu_backward.grad_input(slope, a, grad_input=out),
        math.sqrt(2),
    ),
    # scale a above 0, scale alpha (exp(a) - 1) below
    "selu": Activation(
        lambda a, out: aten.elu.out(a, *SELU, out=out),
        lambda slope, a, out: aten.elu_backward.grad_input(slope, *SELU, False, a, grad_input=out),
        1.0,
    ),
}


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

    def __call__(self, theta: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v at time t `()` or `(seeds, batch)` and points x `(seeds, batch, dim)`; shaped like x."""
        inputs = torch.cat([x, t.expand(x.shape[:-1])[..., None]], -1)
        return _Perceptron.apply(theta, inputs, self.shapes, ACTIVATIONS[self.activation])


class _Perceptron(Function):
    """Products with activations between, and their gradients, as one node of the graph: at these sizes a node costs as much
    as its arithmetic (measured at three seeds, width 64, batch 128: 2.2 ms a step with a node for every product, 1.1 ms so).
    """

    @staticmethod
    def forward(ctx, theta: Tensor, h: Tensor, shapes: Shapes, activation: Activation) -> Tensor:  # noqa: ANN001
        weights = list(unpack(theta, shapes).values())
        inputs, sums = [], []
        for i, (weight, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
            inputs.append(_elementwise(activation.forward, sums[-1]) if i else h)
            sums.append(torch.baddbmm(bias, inputs[-1], weight))
        ctx.save_for_backward(theta, *inputs, *sums[:-1])
        ctx.shapes, ctx.activation = shapes, activation
        return sums[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:  # noqa: ANN001
        theta, *saved = ctx.saved_tensors
        layers = len(ctx.shapes) // 2
        inputs, sums = saved[:layers], saved[layers:]
        weights = list(unpack(theta, ctx.shapes).values())
        grad_theta = torch.empty_like(theta)
        grads = list(unpack(grad_theta, ctx.shapes).values())
        ones = grad.new_ones(1).expand(grad.shape[0], 1, grad.shape[1])
        for i in reversed(range(layers)):
            torch.bmm(inputs[i].mT, grad, out=grads[2 * i])
            torch.bmm(ones, grad, out=grads[2 * i + 1])
            if i or ctx.needs_input_grad[1]:
                grad = torch.bmm(grad, weights[2 * i].mT)
            if i:
                grad = _elementwise(ctx.activation.backward, grad, sums[i - 1])
        return grad_theta, grad if ctx.needs_input_grad[1] else None, None, None


def _elementwise(kernel: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """A kernel that writes into its last argument: seed by seed on a CPU, everything at once elsewhere."""
    out = torch.empty_like(tensors[0])
    whole = (*tensors, out)
    for parts in zip(*(tensor.unbind() for tensor in whole), strict=True) if out.device.type == "cpu" else [whole]:
        kernel(*parts)
    return out


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
        frame, size = self.frame, self.path.size(t)
        x = (x - frame.shift) / frame.scale
        return frame.speed * self.network(self.theta, t, x if size is None else x / size[..., None])

    def seed(self, k: int) -> "Velocity":
        """The field of the k-th seed alone (its seed axis has length one)."""
        row = slice(k, k + 1)
        frame = Frame(self.frame.shift[row], self.frame.scale[row], self.frame.speed[row])
        return replace(self, theta=self.theta[row], frame=frame)

    def to(self, device: torch.device | str) -> "Velocity":
        frame = Frame(*(part.to(device) for part in (self.frame.shift, self.frame.scale, self.frame.speed)))
        return replace(self, theta=self.theta.to(device), frame=frame)


VELOCITIES: dict[str, type[MLP]] = {"mlp": MLP}
