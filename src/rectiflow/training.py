"""Training: weights that lower an objective, averaged, for all seeds at once.

Seed k's weights depend on seed k's data and generator alone: each seed has its own row of the weights, its own draws and its
own reductions, while the network's products are batched (see `networks`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from rectiflow.models.model import Model, Weights
from rectiflow.objectives.objective import Objective, Turns
from rectiflow.pairs import Pairs, Points
from rectiflow.ranges import among, at_least, inside, positive
from rectiflow.resuming import Keeper, State

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
        at_least(1, steps=self.steps, batch=self.batch, log_every=self.log_every)
        at_least(0, warmup=self.warmup, weight_decay=self.weight_decay)
        positive(lr=self.lr, clip=self.clip)
        inside("[0, 1)", ema=self.ema)
        among(SCHEDULES, schedule=self.schedule)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        return self.lr * rise * SCHEDULES[self.schedule](step / self.steps)


@dataclass(frozen=True)
class Curves:
    """Losses `(seeds, points)` after the given numbers of steps: the mean since the last point, and the held-out one.

    `history` are the averaged weights there, by player, if they were to be kept.
    """

    steps: list[int]
    training: Tensor
    validation: Tensor
    history: list[Weights] = field(default_factory=list)


class AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with gradient clipping, for weights `(seeds, size)`.

    It calls the fused kernel that `torch.optim.AdamW(fused=True)` calls, once for each seed's row, so that a seed's step
    does not depend on its neighbours; building that optimiser would import the compiler, 1.5 s for every stage.
    """

    def __init__(self, theta: Tensor, weight_decay: float, clip: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.rows = list(theta.unbind())
        self.weight_decay, self.clip, self.betas = weight_decay, clip, betas
        self.moments = {name: torch.zeros_like(theta) for name in ("first", "second")}
        self.first, self.second = (list(moment.unbind()) for moment in self.moments.values())
        self.count = torch.zeros((), device=theta.device)

    def step(self, grad: Tensor, lr: float) -> None:
        """Scale each seed's gradient down to norm `clip` where it is longer, then move theta in place."""
        norm = torch.stack(torch._foreach_norm(list(grad.unbind())))
        grads = list(grad.mul_((self.clip / (norm + 1e-6)).clamp_(max=1)[:, None]).unbind())
        self.count += 1
        torch._fused_adamw_(
            self.rows, grads, self.first, self.second, [], [self.count] * len(grads), amsgrad=False, maximize=False,
            lr=lr, beta1=self.betas[0], beta2=self.betas[1], weight_decay=self.weight_decay, eps=1e-8,
        )  # fmt: skip


def means(x: Tensor) -> Tensor:
    """The mean of each seed's part, shape `(seeds,)`, summed in an order that does not depend on the other seeds."""
    return torch.stack([part.mean() for part in x.unbind()])


def _chunk(data: Points | Pairs, options: Training) -> int:
    """How many steps are drawn at a time: small calls cost more than work."""
    return max(1, min(50, 2**22 // (options.batch * data.dim)))


def _batches(
    objective: Objective,
    model: Model,
    data: Points | Pairs,
    options: Training,
    generators: Sequence[Generator],
    begun: int,
) -> Iterator[tuple[Tensor, ...]]:
    """One for each step after the first `begun`, whole chunks."""
    chunk = _chunk(data, options)
    for start in range(begun, options.steps, chunk):
        shape = (min(chunk, options.steps - start), options.batch)
        rows = [torch.randint(data.rows, shape, generator=generator) for generator in generators]
        yield from zip(*_drawn(objective, model, data, rows, generators, start / options.steps), strict=True)


def _held_out(
    objective: Objective, model: Model, data: Points | Pairs, generators: Sequence[Generator]
) -> tuple[Tensor, ...]:
    """The whole validation set, drawn once, so that two points of a curve differ by the weights alone."""
    rows = [torch.arange(data.rows)[None]] * len(generators)
    return tuple(part[0] for part in _drawn(objective, model, data, rows, generators, 1.0))


def _drawn(
    objective: Objective,
    model: Model,
    data: Points | Pairs,
    rows: Sequence[Tensor],
    generators: Sequence[Generator],
    done: float,
) -> list[Tensor]:
    """What some steps of all seeds need: tensors `(steps, seeds, ...)`."""
    parts = [
        objective.draw(model.seed(k), data.seed(k), mine, generator, done)
        for k, (mine, generator) in enumerate(zip(rows, generators, strict=True))
    ]
    return [torch.stack(part, 1) for part in zip(*parts, strict=True)]


def _guard(
    step: int, values: Tensor, first: Tensor, size: float, whose: str, generators: Sequence[Generator], options: Training
) -> None:
    """Stop when a loss is not finite or has risen by a thousand times what it was before training, or its player's size."""
    bad = ~torch.isfinite(values) | (values - first > 1e3 * first.abs().clamp_min(size))
    if bad.any():
        k = int(bad.nonzero()[0])
        raise Diverged(
            f"training diverged at step {step}: the loss of {whose}seed {generators[k].initial_seed()} is {values[k]:.3g} "
            f"(first {first[k]:.3g}); lower training.lr ({options.lr:g}) or training.clip ({options.clip:g})"
        )


class Player:
    """The weights of one player: as they are trained, their average, and the optimiser between."""

    def __init__(self, theta: Tensor, options: Training, turns: Turns) -> None:
        self.average = theta.clone()
        self.theta = theta.requires_grad_()
        self.options, self.turns = options, turns
        self.optimiser = AdamW(theta.detach(), options.weight_decay, options.clip, turns.betas)
        self._averages = list(self.average.unbind())

    def step(self, losses: Tensor, step: int) -> None:
        """Lower the mean loss of each seed, `losses` `(seeds, ...)`; steps count from 1."""
        (grad,) = torch.autograd.grad(losses.sum() / losses[0].numel(), self.theta)
        self.optimiser.step(grad, self.turns.rate * self.options.rate(step - 1))
        taken = step // self.turns.every
        decay = min(self.options.ema, taken / (9 + taken)) if self.options.ema else 0.0
        torch._foreach_lerp_(self._averages, self.optimiser.rows, 1 - decay)

    @property
    def state(self) -> dict[str, Tensor]:
        """All that its steps change."""
        tensors = {"theta": self.theta.detach(), "average": self.average, "count": self.optimiser.count}
        return tensors | self.optimiser.moments


@dataclass
class Course:
    """How far a training has come: the step, the sum of the first player's losses since the last point of the curves, and
    the points, each with the training and the held-out losses of all seeds, and the averaged weights where they are kept.
    """

    since: Tensor
    step: int = 0
    steps: list[int] = field(default_factory=list)
    rows: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    history: list[Weights] = field(default_factory=list)

    def log(self, now: Tensor) -> None:
        """One more point, with the held-out losses `(seeds,)`."""
        self.rows.append((means(self.since).cpu() / (self.step - (self.steps[-1] if self.steps else 0)), now))
        self.steps.append(self.step)
        self.since = torch.zeros_like(self.since)

    @property
    def curves(self) -> Curves:
        training, validation = (torch.stack(column, 1) for column in zip(*self.rows, strict=True))
        return Curves(self.steps, training, validation, self.history)


def _state(course: Course, players: Mapping[str, Player], generators: Sequence[Generator]) -> State:
    """A training between two chunks, where the generators are as the next one finds them."""
    tensors = {f"player/{name}/{part}": of for name, player in players.items() for part, of in player.state.items()}
    tensors |= {f"generator/{k}": generator.get_state() for k, generator in enumerate(generators)}
    tensors |= {f"row/{k}/{j}": part for k, row in enumerate(course.rows) for j, part in enumerate(row)}
    tensors |= {f"history/{k}/{name}": part for k, kept in enumerate(course.history) for name, part in kept.items()}
    return State(tensors | {"since": course.since}, {"step": course.step, "steps": course.steps})


def _restored(state: State, players: Mapping[str, Player], generators: Sequence[Generator], keeps: bool) -> Course:
    """The inverse of `_state`, for players and generators that have begun alike."""
    tensors, steps = state.tensors, state.values["steps"]
    for name, player in players.items():
        for part, of in player.state.items():
            of.copy_(tensors[f"player/{name}/{part}"])
    for k, generator in enumerate(generators):
        generator.set_state(tensors[f"generator/{k}"])
    rows = [(tensors[f"row/{k}/0"], tensors[f"row/{k}/1"]) for k in range(len(steps))]
    history = [{name: tensors[f"history/{k}/{name}"] for name in players} for k in range(len(steps) if keeps else 0)]
    device = next(iter(players.values())).average.device
    return Course(tensors["since"].to(device), state.values["step"], steps, rows, history)


def fit(
    objective: Objective,
    data: Points | Pairs,
    held_out: Points | Pairs,
    generators: Sequence[Generator],
    options: Training,
    start: Model | None = None,
    progress: Progress | None = None,
    keeper: Keeper | None = None,
) -> tuple[Any, Curves]:
    """Train one model for each seed on its rows of `data`, and return it with the averaged weights, and the loss curves.

    `generators` are one for each seed, and all that its numbers depend on beside its data. `start` goes on from a trained
    model. `progress(step, losses)` is called at every logged step. The curves show the first player's losses. `keeper` has a
    state of the same training, from which this one goes on to the same bytes, and is offered later ones. Raises Diverged as
    soon as a logged loss is not finite, or any player's far above its start.
    """
    begun = objective.begin(data, generators, start)
    players = {name: Player(begun.weights[name], options, turns) for name, turns in objective.players.items()}
    shape = begun.plain() if objective.smooth else begun
    model = replace(shape, weights={name: player.theta for name, player in players.items()})
    average = replace(shape, weights={name: player.average for name, player in players.items()})
    first = next(iter(players))
    checked = _held_out(objective, average, held_out, generators)

    def losses_now(name: str) -> Tensor:
        with torch.no_grad():
            return means(objective.losses(name, average, average, checked)).cpu()

    before = {name: losses_now(name) for name in players}
    kept = keeper.load() if keeper else None
    if kept:
        course = _restored(kept, players, generators, options.history)
    else:
        course = Course(torch.zeros((), device=begun.weights[first].device))
    chunk = _chunk(data, options)
    batches = _batches(objective, average, data, options, generators, course.step)
    for step, batch in enumerate(batches, course.step + 1):
        course.step = step
        for name, player in players.items():
            if step % player.turns.every:
                continue
            losses = objective.losses(name, model, average, batch)
            player.step(losses, step)
            course.since = course.since + losses.detach() if name == first else course.since
        if step % options.log_every == 0 or step == options.steps:
            now = {name: losses_now(name) for name in players}
            course.log(now[first])
            if options.history:
                course.history.append({name: player.average.cpu().clone() for name, player in players.items()})
            _guard(step, course.rows[-1][0], before[first], players[first].turns.size, "", generators, options)
            for name, values in now.items():
                whose = "" if len(players) == 1 else f"the {name}, "
                _guard(step, values, before[name], players[name].turns.size, whose, generators, options)
            if progress:
                progress(step, course.rows[-1][1].tolist())
        if keeper and step % chunk == 0 and step < options.steps:
            keeper.offer(lambda: _state(course, players, generators))
    return replace(begun, weights=average.weights), course.curves
