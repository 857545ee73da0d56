"""Training and sampling as they are written in plain PyTorch, a model at a time. It needs torch alone, so that a test can
hold its losses against the project's.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, jvp

Loss = Callable[..., Tensor]  # of the model, its average, and what was drawn
Draw = Callable[[Tensor, Tensor], tuple[Tensor, ...]]  # what a step needs, for points x0 and x1


def network(inputs: int, outputs: int, width: int = 128, depth: int = 4) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(width if i else inputs, width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def load(layers: Iterable[nn.Module], parts: Iterable[Tensor]) -> None:
    """Gives the linear ones of some layers their weights `(inputs, outputs)` and biases `(1, outputs)`, in turn."""
    linear, found = [layer for layer in layers if isinstance(layer, nn.Linear)], iter(parts)
    with torch.no_grad():
        for layer, weight, bias in zip(linear, found, found, strict=True):
            layer.weight.copy_(weight.T)
            layer.bias.copy_(bias[0])


def two_times(x0: Tensor, x1: Tensor) -> tuple[Tensor, ...]:
    """s <= t, half of them equal, the points at s and the velocity there."""
    first, second, place = torch.rand(3, len(x0), 1)
    s, t = torch.minimum(first, second), torch.maximum(first, second)
    return s, torch.where(place < 0.5, s, t), torch.lerp(x0, x1, s), x1 - x0


def meanflow(model: nn.Module, average: nn.Module, s: Tensor, t: Tensor, xs: Tensor, us: Tensor) -> Tensor:
    """Improved MeanFlow (arXiv 2512.02012): the derivative goes along the network's own velocity and is held fixed."""
    theta: dict[str, Tensor] = dict(model.named_parameters())
    one = torch.ones_like(s)

    def u(x: Tensor, s: Tensor, gap: Tensor) -> Tensor:
        return functional_call(model, theta, torch.cat([x, s, gap], 1))

    with torch.no_grad():
        v = u(xs, s, torch.zeros_like(s))
    found, slope = cast(tuple[Tensor, Tensor], jvp(u, (xs, s, t - s), (v, one, -one)))
    return (found - (us + (t - s) * slope).detach()).square().mean()


def neighbours(x0: Tensor, x1: Tensor, steps: int = 18) -> tuple[Tensor, ...]:
    """Neighbouring times s and t among equal steps, and the points at s."""
    k = torch.randint(steps, (len(x0), 1))
    return k / steps, (k + 1) / steps, torch.lerp(x0, x1, k / steps)


def distillation(teacher: nn.Module) -> Loss:
    """Consistency distillation (arXiv 2303.01469): Heun's step along the teacher, behind it the averaged map."""

    def field(t: Tensor, x: Tensor) -> Tensor:
        return teacher(torch.cat([x, t], 1))

    def loss(model: nn.Module, average: nn.Module, s: Tensor, t: Tensor, xs: Tensor) -> Tensor:
        with torch.no_grad():
            v = field(s, xs)
            xt = xs + (t - s) / 2 * (v + field(t, xs + (t - s) * v))
            end = xt + (1 - t) * average(torch.cat([xt, t], 1))
        return (xs + (1 - s) * model(torch.cat([xs, s], 1)) - end).square().sum(1).mean()

    return loss


def train(objective: str, x0: Tensor, x1: Tensor, steps: int, batch: int) -> nn.Module:
    """One model on stored pairs of the plane, and its averaged weights; the teacher of a distillation is untrained."""
    draw: Draw
    loss: Loss
    if objective == "meanflow":
        inputs, draw, loss = 4, two_times, meanflow
    else:
        inputs, draw, loss = 3, neighbours, distillation(network(3, 2))
    model = network(inputs, 2)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(x0), (batch,))
        found = loss(model, average, *draw(x0[rows], x1[rows]))
        optimizer.zero_grad()
        found.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(weight, 1e-3)
    return average


def match(model: nn.Module, x1: Tensor, steps: int, batch: int) -> float:
    """Flow matching from noise to rows x1 as torchcfm's example on MNIST does it, and the last loss; the model sees rows of
    a point and a time. Nothing is clipped, averaged or held out.
    """
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        end = x1[torch.randint(len(x1), (batch,))]
        start, t = torch.randn_like(end), torch.rand(batch, 1)
        xt, ut = t * end + (1 - t) * start, end - start
        loss = torch.mean((model(torch.cat([xt, t], 1)) - ut) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@torch.no_grad()
def euler(model: Callable[[Tensor], Tensor], x: Tensor, steps: int) -> Tensor:
    """The ends of the flow that begins at points x, all at once."""
    for t in torch.linspace(0, 1, steps + 1)[:-1]:
        x = x + model(torch.cat([x, t.expand(len(x), 1)], 1)) / steps
    return x


@torch.no_grad()
def follow(model: nn.Module, law: Any, s: Tensor, actions: Tensor, steps: int, generator: Generator) -> Tensor:
    """The last states of roll-outs from states s by a flow of a law of what is next, which sees rows of a point, a time, the
    condition and a one.
    """
    for a in actions:
        c = torch.cat([law.condition(s, a), torch.ones(len(s), 1)], 1)
        x0 = torch.randn(s.shape, generator=generator)

        def field(rows: Tensor, c: Tensor = c) -> Tensor:
            found: Tensor = model(torch.cat([rows, c], 1))
            return found

        s = law.after(s, euler(field, x0, steps))
    return s


@torch.no_grad()
def unmask(model: nn.Module, rows: int, tokens: int, values: int, steps: int) -> Tensor:
    """Draws of a masked flow whose share of the data is the time: in every step all rows are asked, and each token that is
    hidden is drawn with probability `h / (1 - t)`. The model sees a one for every token that is known.
    """
    x, hidden = torch.zeros(rows, tokens, dtype=torch.long), torch.ones(rows, tokens, dtype=torch.bool)
    for k in range(steps):
        seen = nn.functional.one_hot(x, values) * ~hidden[..., None]
        p = model(seen.flatten(1).float()).view(rows * tokens, values).softmax(-1)
        jumps = hidden & (torch.rand(rows, tokens) < 1 / (steps - k))
        x, hidden = torch.where(jumps, torch.multinomial(p, 1).view(rows, tokens), x), hidden & ~jumps
    return x
