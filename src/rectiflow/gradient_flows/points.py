"""What schemes of points share: their states, and the energy of a law that is known by points alone.

The density of points is that of Gaussians of deviation `bandwidth` around them, worked out on a grid: every point is shared
among the corners of its cell, the grid is blurred along each axis, and read off between its corners again.
"""

import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.gradient_flows.axes import along
from rectiflow.gradient_flows.energies import Energy
from rectiflow.gradient_flows.scheme import Descent, Measured, Scheme, State
from rectiflow.likelihood import Exact, carried
from rectiflow.ranges import at_least, positive
from rectiflow.solvers import SOLVERS, VelocityField

AXES = 3
FINE = 4.0  # cells of the grid in a bandwidth
REACH = 5.0  # bandwidths that the grid goes beyond the points


@dataclass(frozen=True)
class Cloud(Scheme):
    """A scheme whose states are `points` points `x` `(n, dim)`."""

    points: int = 2000

    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(2, points=self.points)

    @property
    def name(self) -> str:
        """What `params.yaml` calls it."""
        return type(self).__name__.lower()

    def weighted(self, state: State) -> tuple[Tensor, Tensor]:
        x = state["x"]
        return x, x.new_full((len(x),), 1 / len(x))

    def available(self, n: int) -> int:
        return min(n, self.points)

    def sample(self, state: State, n: int, generator: Generator) -> Tensor:
        x = state["x"]
        if n > len(x):
            raise ValueError(f"points: {len(x)} are fewer than the {n} that are compared")
        return x[:n]

    def length(self, descent: Descent, before: State, after: State) -> float:
        """The root mean square of what the points have moved: W2 where none could change places with gain, else above it."""
        return float((after["x"] - before["x"]).square().sum(1).mean().sqrt())


@dataclass(frozen=True)
class Blurred(Cloud):
    """Points whose density is estimated from themselves, by Gaussians of deviation `bandwidth`."""

    bandwidth: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(bandwidth=self.bandwidth)

    def fits(self, descent: Descent) -> None:
        """Raises ValueError for too many axes, where there is a density to estimate."""
        if descent.dim > AXES and (descent.energy.entropy or descent.energy.power):
            raise ValueError(f"name: {self.name!r} estimates a density in {descent.dim} dimensions, and is for up to {AXES}")

    def begin(self, descent: Descent, generator: Generator) -> State:
        return {"x": descent.source.sample(self.points, generator).double()}

    def each(self, energy: Energy, x: Tensor) -> Tensor:
        """What each point contributes to n F, `(n,)`; it may be differentiated."""
        found = energy.outer(x)
        if energy.entropy or energy.power:
            found = found + internal(energy, x, self.bandwidth)
        return found if energy.pair is None else found + pairs(energy, x) / 2

    def energy(self, descent: Descent, state: State) -> Measured:
        """F by the density of the points: too low by what the blur adds to it."""
        return mean(self.each(descent.energy, state["x"]))


@dataclass(frozen=True)
class Carried(Cloud):
    """Points that carry the logarithm of their law's density along, `log_p` `(n,)`."""

    def fits(self, descent: Descent) -> None:
        """Raises ValueError for energies of the density that a change of variables does not give."""
        if descent.energy.power or descent.energy.pair is not None or descent.energy.bound < math.inf:
            raise ValueError(f"name: {self.name!r} follows kl, heat and potential")

    def begin(self, descent: Descent, generator: Generator) -> State:
        x = descent.source.sample(self.points, generator).double()
        return {"x": x, "log_p": descent.source.log_prob(x).double()}

    def energy(self, descent: Descent, state: State) -> Measured:
        return mean(descent.energy.entropy * state["log_p"] + descent.energy.outer(state["x"]))


@dataclass(frozen=True)
class Timed(Carried):
    """Points that an equation carries, in `substeps` steps of the classical Runge-Kutta method to one of length tau."""

    substeps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, substeps=self.substeps)

    def fits(self, descent: Descent) -> None:
        """Raises ValueError for more axes than the divergence is worked out for, too."""
        super().fits(descent)
        if descent.dim > (most := Exact().most):
            raise ValueError(
                f"name: {self.name!r} carries a density in up to {most} dimensions, and there are {descent.dim}"
            )

    def begin(self, descent: Descent, generator: Generator) -> State:
        return super().begin(descent, generator) | {"time": torch.zeros((), dtype=torch.float64)}

    @abstractmethod
    def field(self, descent: Descent) -> VelocityField:
        """What carries them, a function of time and points."""

    @torch.no_grad()
    def step(self, descent: Descent, state: State, generator: Generator) -> State:
        x, time, divergence = state["x"], state["time"], Exact()
        directions = divergence.directions(x, None)

        def integrand(_: Tensor, along: Tensor) -> Tensor:
            return divergence.parts(directions, along)

        solver, times = SOLVERS["rk4"](steps=self.substeps), (float(time), float(time) + descent.tau)
        x, change, _ = carried(self.field(descent), x, directions, integrand, 1, solver, times)
        return {"x": x, "log_p": state["log_p"] - change[..., 0], "time": time + descent.tau}


def mean(each: Tensor) -> Measured:
    """The mean over points with its standard error."""
    return Measured(float(each.mean()), float(each.std()) / math.sqrt(len(each)))


def internal(energy: Energy, x: Tensor, bandwidth: float) -> Tensor:
    """`entropy log p + p^(power - 1) / (power - 1)` at points `(n, dim)`, by their own density."""
    p = density(x, bandwidth)
    found = energy.entropy * p.log()
    return found + p ** (energy.power - 1) / (energy.power - 1) if energy.power else found


def density(x: Tensor, bandwidth: float) -> Tensor:
    """The density of points `(n, dim)` at themselves, `(n,)`; it may be differentiated."""
    n, dim = x.shape
    low, high = x.detach().amin(0) - REACH * bandwidth, x.detach().amax(0) + REACH * bandwidth
    h = bandwidth / FINE
    size = [int(extent) + 2 for extent in ((high - low) / h).tolist()]
    place = (x - low) / h
    corner = place.detach().floor().long()
    part = place - corner
    strides = torch.tensor([math.prod(size[k + 1 :]) for k in range(dim)])
    cells, shares = [], []
    for step in itertools.product((0, 1), repeat=dim):
        up = torch.tensor(step)
        cells.append(((corner + up) * strides).sum(1))
        shares.append(torch.where(up.bool(), part, 1 - part).prod(1))
    mass = x.new_zeros(math.prod(size)).index_add(0, torch.cat(cells), torch.cat(shares))
    p = mass.reshape(size) / (n * h**dim)
    # What sharing a point among corners blurs is taken off the Gaussian's variance: h^2 / 6 each way, on average.
    deviation = math.sqrt(bandwidth**2 - h**2 / 3)
    flat = along([_blur(length, h / deviation, x) for length in size], p).flatten()
    return sum((flat[cell] * share for cell, share in zip(cells, shares, strict=True)), start=torch.zeros_like(flat[:1]))


def score(x: Tensor, bandwidth: float) -> Tensor:
    """The gradient of their log density at points `(n, dim)`, shaped like them."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(density(at, bandwidth).log().sum(), at)
    return slope


def _blur(length: int, h: float, like: Tensor) -> Tensor:
    """A Gaussian of deviation 1 between places h apart, as a matrix whose middle rows sum to 1."""
    at = torch.arange(length, dtype=like.dtype)
    blur = torch.exp(-((at[:, None] - at) * h).square() / 2)
    return blur / blur.sum(1).max()


def pairs(energy: Energy, x: Tensor) -> Tensor:
    """`mean_j W(|x_i - x_j|)`, `(n,)`."""
    assert energy.pair is not None
    parts = x.split(max(1, 2**22 // len(x)))
    return torch.cat([energy.pair(torch.cdist(part, x)).mean(1) for part in parts])


def slope(energy: Energy, x: Tensor) -> Tensor:
    """The gradient of V and of what all points together exert on each, `(n, dim)`."""
    found = -energy.force(x)
    if energy.pair is not None:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (pulled,) = torch.autograd.grad(pairs(energy, at).sum(), at)
        found = found + pulled  # half from the point's own place, half from its place among the others'
    return found
