"""Conditional flow matching: `min E |v(t, xt) - ut|^2` over stored pairs, t uniform on the path's span; or the same for
another prediction than the velocity, with its published weight.

All seeds train at once, and seed k's weights depend on seed k's pairs and generator alone: each seed has its own leaf
tensor, its own draws and its own reductions, while the network's products are batched (see `velocities`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.models.frame import Frame
from rectiflow.models.velocity import Velocity
from rectiflow.networks.mlp import MLP
from rectiflow.pairs import Pairs
from rectiflow.predictions import PREDICTIONS, combine
from rectiflow.regression import draw
from rectiflow.weights import pack

Progress = Callable[[int, list[float]], None]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


class Diverged(ArithmeticError):
    """A loss stopped being finite or left its start far behind."""


@dataclass(frozen=True)
class Training:
    """How long and how: AdamW, a linear warm-up into `schedule`, gradient clipping, an average of the weights.

    `ema` is the decay of the weights' exponential average (0 turns it off), `clip` the largest gradient norm of a seed,
    `log_every` the steps between two rows of the curves, `history` whether the weights at each of them are kept.
    """

    steps: int = 3000
    batch: int = 256
    lr: float = 5e-3
    weight_decay: float = 0.0
    warmup: int = 100
    schedule: str = "cosine"
    ema: float = 0.999
    clip: float = 10.0
    log_every: int = 100
    history: bool = False

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch", 1), ("log_every", 1), ("warmup", 0), ("weight_decay", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least {low}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be greater than 0")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: {self.ema} must lie in [0, 1)")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule: {self.schedule!r} is not one of {', '.join(SCHEDULES)}")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        return self.lr * rise * SCHEDULES[self.schedule](step / self.steps)


@dataclass(frozen=True)
class Curves:
    """Losses `(seeds, points)` after the given numbers of steps: the mean since the last point, and the held-out one.

    `history` are the averaged weights there, `(points, seeds, size)`, or None where they were not to be kept.
    """

    steps: list[int]
    training: Tensor
    validation: Tensor
    history: Tensor | None = None


class AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with gradient clipping, for weights `(seeds, size)`.

    It calls the fused kernel that `torch.optim.AdamW(fused=True)` calls, once for each seed's row, so that a seed's step
    does not depend on its neighbours; building that optimiser would import the compiler, 1.5 s for every stage.
    """

    def __init__(self, theta: Tensor, weight_decay: float, clip: float) -> None:
        self.rows = list(theta.unbind())
        self.weight_decay, self.clip = weight_decay, clip
        self.first, self.second = (list(torch.zeros_like(theta).unbind()) for _ in range(2))
        self.count = torch.zeros((), device=theta.device)

    def step(self, grad: Tensor, lr: float) -> None:
        """Scale each seed's gradient down to norm `clip` where it is longer, then move theta in place."""
        norm = torch.stack(torch._foreach_norm(list(grad.unbind())))
        grads = list(grad.mul_((self.clip / (norm + 1e-6)).clamp_(max=1)[:, None]).unbind())
        self.count += 1
        torch._fused_adamw_(
            self.rows, grads, self.first, self.second, [], [self.count] * len(grads), amsgrad=False, maximize=False,
            lr=lr, beta1=0.9, beta2=0.999, weight_decay=self.weight_decay, eps=1e-8,
        )  # fmt: skip


def means(x: Tensor) -> Tensor:
    """The mean of each seed's part, shape `(seeds,)`, summed in an order that does not depend on the other seeds."""
    return torch.stack([part.mean() for part in x.unbind()])


class Batch(NamedTuple):
    """What a step needs, in the network's own units and layout (points are columns): `inputs` `(seeds, dim + 1, batch)`,
    `target` `(seeds, dim, batch)`, and the `weight` of its squared errors, `(seeds, 1, 1 or batch)`.
    """

    inputs: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def of(cls, velocity: Velocity, t: Tensor, xt: Tensor, target: Tensor) -> "Batch":
        """Of times `(..., seeds, batch)`, points and predictions `(..., seeds, batch, dim)`."""
        speed, weight = velocity.frame.speed, PREDICTIONS[velocity.prediction].weight
        factor = weight(velocity.path, t)[..., None, :] if weight else t.new_ones(*t.shape[:-1], 1, 1)
        return cls(velocity.inputs(t, xt), (target / speed).mT.contiguous(), speed.square() * factor)

    def losses(self, velocity: Velocity) -> Tensor:
        """Weighted squared errors, `(seeds, dim, batch)`."""
        return self.weight * (velocity.network.through(velocity.theta, self.inputs) - self.target).square()


def _batches(velocity: Velocity, pairs: Pairs, options: Training, generators: Sequence[Generator]) -> Iterator[Batch]:
    """One for each step, drawn and interpolated many steps at a time: small calls cost more than work."""
    n, dim = pairs.x0.shape[1:]
    chunk = max(1, min(50, 2**22 // (options.batch * dim)))
    for start in range(0, options.steps, chunk):
        shape = (min(chunk, options.steps - start), options.batch)
        drawn = [
            draw(velocity.path, x0, x1, torch.randint(n, shape, generator=generator), generator, velocity.prediction)
            for x0, x1, generator in zip(pairs.x0, pairs.x1, generators, strict=True)
        ]
        steps = Batch.of(velocity, *(torch.stack(parts, 1) for parts in zip(*drawn, strict=True)))
        yield from map(Batch, *steps)


def _held_out(velocity: Velocity, pairs: Pairs, generators: Sequence[Generator]) -> Batch:
    """The whole validation set at fixed times, so that two points of a curve differ by the weights alone."""
    rows = torch.arange(pairs.x0.shape[1])
    drawn = [
        draw(velocity.path, x0, x1, rows, generator, velocity.prediction)
        for x0, x1, generator in zip(pairs.x0, pairs.x1, generators, strict=True)
    ]
    return Batch.of(velocity, *(torch.stack(parts) for parts in zip(*drawn, strict=True)))


def _frame(interpolant: Interpolant, pairs: Pairs, prediction: str) -> Frame:
    """The units of the pairs, and of the prediction in the middle of the path."""
    x0, x1 = pairs.x0, pairs.x1
    if prediction == "velocity":
        return Frame.of(x0, x1)
    middle = torch.tensor(0.5, dtype=x0.dtype, device=x0.device)
    return Frame.of(x0, x1, combine(PREDICTIONS[prediction].row(interpolant, middle), x0, x1))


def _guard(step: int, values: Tensor, first: Tensor, seeds: Sequence[int], options: Training) -> None:
    """Stop when a loss is not finite or a thousand times the first one logged."""
    bad = ~torch.isfinite(values) | (values > 1e3 * first.clamp_min(1e-3))
    if bad.any():
        k = int(bad.nonzero()[0])
        raise Diverged(
            f"training diverged at step {step}: the loss of seed {seeds[k]} is {values[k]:.3g} "
            f"(first {first[k]:.3g}); lower training.lr ({options.lr:g}) or training.clip ({options.clip:g})"
        )


def fit(
    network: MLP,
    interpolant: Interpolant,
    pairs: Pairs,
    validation: Pairs,
    seeds: Sequence[int],
    options: Training,
    start: Velocity | None = None,
    progress: Progress | None = None,
    prediction: str = "velocity",
) -> tuple[Velocity, Curves]:
    """Train one field for each seed on its pairs and return the averaged weights with the loss curves.

    `start` continues from a trained field of the same prediction (in its frame) instead of fresh weights.
    `progress(step, losses)` is called at every logged step. Raises Diverged as soon as a logged loss is not finite.
    """
    generators = [Generator().manual_seed(seed) for seed in seeds]
    fresh = torch.stack([pack(network.init(generator)) for generator in generators]).to(pairs.x0.device)
    goes_on = start is not None and start.prediction == prediction
    theta, frame = (start.theta.clone(), start.frame) if goes_on else (fresh, _frame(interpolant, pairs, prediction))
    average = theta.clone()
    velocity = Velocity(network, theta.requires_grad_(), frame, interpolant, prediction)
    averaged, averages = replace(velocity, theta=average), list(average.unbind())
    optimiser = AdamW(theta.detach(), options.weight_decay, options.clip)
    held_out = _held_out(velocity, validation, generators)

    steps: list[int] = [0]
    rows: list[tuple[Tensor, Tensor]] = []
    history: list[Tensor] = []
    squares = torch.zeros((), device=theta.device)
    for step, batch in enumerate(_batches(velocity, pairs, options, generators), 1):
        losses = batch.losses(velocity)
        (grad,) = torch.autograd.grad(losses.sum() / losses[0].numel(), theta)
        optimiser.step(grad, options.rate(step - 1))
        decay = min(options.ema, step / (9 + step)) if options.ema else 0.0
        torch._foreach_lerp_(averages, optimiser.rows, 1 - decay)
        squares = squares + losses.detach()
        if step % options.log_every == 0 or step == options.steps:
            with torch.no_grad():
                row = means(squares) / (step - steps[-1]), means(held_out.losses(averaged))
            rows.append(tuple(part.cpu() for part in row))
            steps.append(step)
            if options.history:
                history.append(average.cpu().clone())
            squares = torch.zeros_like(squares)
            _guard(step, torch.maximum(*rows[-1]), rows[0][0], seeds, options)
            if progress:
                progress(step, rows[-1][1].tolist())
    training, validation_losses = (torch.stack(column, 1) for column in zip(*rows, strict=True))
    return averaged, Curves(steps[1:], training, validation_losses, torch.stack(history) if history else None)
