"""Small systems that are pushed and shaken: what is next of a state and an action is a law.

A state s `(..., states)` and an action a `(..., actions)` follow `ds = f(s, a) dt + g(s) dW` for the time `dt` of a step, in
which the action holds. A step is `parts` equal ones: each solves `ds/dt = f(s, a)` by torchdiffeq's Runge-Kutta method of
order four, then adds `g(s) sqrt(dt / parts) eps`, eps ~ N(0, I). The law of a step is that of this simulator.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from rectiflow.ranges import at_least, positive

Span = tuple[float, float]
Function = Callable[[Tensor], Tensor]
Drift = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class System:
    """The names of its numbers, f and g, an energy `(...)` of states, and where states and actions are drawn from: uniform
    in a box that roll-outs stay in, the `spans` of each. Roll-outs start in the part of the box around its centre that is
    `inner` times as wide.
    """

    states: tuple[str, ...]
    actions: tuple[str, ...]
    drift: Drift
    noise: Function
    energy: Function
    spans: tuple[Span, ...]
    dt: float
    parts: int
    inner: float = 0.5

    def __post_init__(self) -> None:
        positive(dt=self.dt)
        at_least(1, parts=self.parts)

    @property
    def size(self) -> Tensor:
        """The deviation of a step's noise in the middle of the box, `(states,)`, in which changes are counted."""
        found: Tensor = self.noise(self._middle) * math.sqrt(self.dt)
        return found

    @property
    def _middle(self) -> Tensor:
        return torch.tensor([sum(span) / 2 for span in self.spans[: len(self.states)]])

    def box(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """n states and actions, uniform in the box."""
        low, high = (torch.tensor(ends) for ends in zip(*self.spans, strict=True))
        drawn = low + (high - low) * torch.rand(n, len(self.spans), generator=generator)
        states, actions = drawn.split([len(self.states), len(self.actions)], 1)
        return states, actions

    def starts(self, n: int, generator: Generator) -> Tensor:
        """n states that roll-outs begin at."""
        states, _ = self.box(n, generator)
        return self._middle + self.inner * (states - self._middle)

    def step(self, s: Tensor, a: Tensor, generator: Generator) -> Tensor:
        """A draw of what is next of states s `(n, states)` under actions a `(n, actions)`."""
        from torchdiffeq import odeint  # 0.6 s of imports that other data sets do not need

        h = self.dt / self.parts
        t = torch.tensor([0.0, h])
        for _ in range(self.parts):
            s = odeint(lambda _, s: self.drift(s, a), s, t, method="rk4")[-1]
            s = s + self.noise(s) * math.sqrt(h) * torch.randn(s.shape, generator=generator)
        return s


def pendulum(*, damping: float = 0.3, torque: float = 0.5, noise: float = 0.25) -> System:
    """A damped pendulum with a torque: the angle q from below, unwrapped, and the velocity p, `dq = p dt + g/2 dW`, `dp =
    (-sin q - damping p + a) dt + g dW'`, with the energy `p^2/2 + 1 - cos q`. Its noise is Gaussian and the same everywhere.
    """
    positive(noise=noise, torque=torque)
    at_least(0, damping=damping)

    def drift(s: Tensor, a: Tensor) -> Tensor:
        q, p = s.unbind(-1)
        return torch.stack([p, -q.sin() - damping * p + a[..., 0]], -1)

    def energy(s: Tensor) -> Tensor:
        q, p = s.unbind(-1)
        return p.square() / 2 + 1 - q.cos()

    spans = ((-3.2, 3.2), (-2.5, 2.5), (-torque, torque))
    size = torch.tensor([noise / 2, noise])
    return System(("angle", "velocity"), ("torque",), drift, lambda s: size.expand(s.shape), energy, spans, 0.1, 1, 0.4)


def double_well(*, push: float = 0.2, noise: float = 0.5) -> System:
    """A particle that friction rules in two wells, `dq = (q - q^3 + a) dt + g dW`, with the energy `q^4/4 - q^2/2`. Its
    noise acts all along a step of two times, in which the particle may fall into either well: the law of the next state has
    two modes where it starts between them.
    """
    positive(noise=noise, push=push)

    def drift(s: Tensor, a: Tensor) -> Tensor:
        return s - s.pow(3) + a

    def energy(s: Tensor) -> Tensor:
        q = s[..., 0]
        return q.pow(4) / 4 - q.square() / 2

    spans = ((-2.5, 2.5), (-push, push))
    return System(("position",), ("push",), drift, lambda s: torch.full_like(s, noise), energy, spans, 2.0, 16, 0.6)


def lotka_volterra(*, harvest: float = 0.3, noise: float = 0.15) -> System:
    """Prey and predators with a harvest of the prey: the logarithms u and v of their densities, `du = (1 - e^u/4 - e^v - a)
    dt + g (e^u + 1/4)^(-1/2) dW`, `dv = (e^u - 1) dt + g (e^v + 1/4)^(-1/2) dW'`: the fewer there are, the more chance there
    is. The energy is `e^u - u + e^v - v`, kept where there is neither harvest, noise nor a limit of the prey.
    """
    positive(noise=noise, harvest=harvest)

    def drift(s: Tensor, a: Tensor) -> Tensor:
        prey, predators = s.exp().unbind(-1)
        return torch.stack([1 - prey / 4 - predators - a[..., 0], prey - 1], -1)

    def chance(s: Tensor) -> Tensor:
        return noise * (s.exp() + 0.25).rsqrt()

    spans = ((-2.0, 1.5), (-2.5, 1.0), (0.0, harvest))
    return System(
        ("prey", "predators"), ("harvest",), drift, chance, lambda s: (s.exp() - s).sum(-1), spans, 0.2, 4, 0.4
    )  # fmt: skip


SYSTEMS: dict[str, Callable[..., System]] = {
    "pendulum": pendulum,
    "double_well": double_well,
    "lotka_volterra": lotka_volterra,
}
