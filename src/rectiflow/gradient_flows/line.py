"""Exact steps where every law is a product of a law on a line and a Gaussian across it: the reference for all other schemes.

Where the start and the target of a KL divergence are such products along the same line, so is every step. Across, it is
known in closed form: for the target N(c, r^2) and N(m, s^2) before it, `m' = (m + tau c / r^2) / (1 + tau / r^2)` and s'
solves `s' (1/r^2 + 1/tau) - s / tau = 1 / s'`. On the line a law is its quantiles q at fixed levels, W2 is a Euclidean
distance between them, and a step is a strictly convex programme while `V'' > -1 / tau`, with a tridiagonal Hessian.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.entropy import LogProb
from rectiflow.gradient_flows.scheme import Descent, Measured, Scheme, State
from rectiflow.mixtures import GaussianMixture
from rectiflow.ranges import at_least

OUT = 6.0  # deviations of a normal law at the outermost level
SAME = 1e-9
ROUNDED = 1e-13  # of the objective, which decides nothing any more
PARTS = 8


@dataclass(frozen=True)
class Line(Scheme):
    """`nodes` quantiles on the line, at levels that are evenly spaced as a normal law's are."""

    nodes: int = 2001
    iterations: int = 100

    random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(3, nodes=self.nodes)
        at_least(1, iterations=self.iterations)

    @property
    def label(self) -> str:
        return f"exact, {self.nodes} quantiles"

    def fits(self, descent: Descent) -> None:
        """Raises ValueError unless both ends are products along one line, and the energy is the KL divergence."""
        target = _mixture("target", descent.target)
        source = _mixture("source", descent.source)
        if not (descent.energy.potential is not None and descent.energy.entropy == 1 and math.isinf(descent.energy.bound)):
            raise ValueError("name: 'exact' follows the energy kl alone")
        frame = _Frame.of(target, source)
        for name, law in (("source", source), ("target", target)):
            off = frame.across(law.means)
            if (off - off[:1]).abs().max() > SAME or (law.stds - law.stds[0]).abs().max() > SAME:
                raise ValueError(
                    f"name: 'exact' needs components of equal deviations with means on one line, which the {name} has not"
                )

    # ---- States: places on the line, and mean and deviation across it.

    def begin(self, descent: Descent, generator: Generator) -> State:
        source = _mixture("source", descent.source)
        frame = _Frame.of(_mixture("target", descent.target), source)
        return {
            "quantiles": _quantiles(frame.along(source), self._levels(), self.iterations),
            "mean": frame.across(source.means)[0].clone(),
            "std": source.stds[0].clone(),
            "axis": frame.axis, "sides": frame.sides,
        }  # fmt: skip

    def step(self, descent: Descent, state: State, generator: Generator) -> State:
        target = _mixture("target", descent.target)
        frame = _Frame(state["axis"], state["sides"])
        precision, rate = 1 / target.stds[0].square(), 1 / descent.tau
        centre = frame.across(target.means)[0]
        std, total = state["std"] * rate, precision + rate
        return state | {
            "quantiles": self._moved(frame.along(target).log_prob, state["quantiles"], descent.tau),
            "mean": (state["mean"] * rate + centre * precision) / total,
            "std": (std + (std.square() + 4 * total).sqrt()) / (2 * total),
        }

    def _levels(self) -> Tensor:
        levels: Tensor = torch.special.ndtr(torch.linspace(-OUT, OUT, self.nodes, dtype=torch.float64))
        return levels

    def _moved(self, log_prob: LogProb, before: Tensor, tau: float) -> Tensor:
        """The quantiles after a step, by Newton's method; steps that cross, or raise the objective, are halved."""
        share = self._levels().diff()
        mass = torch.nn.functional.pad(share, (1, 0)) / 2 + torch.nn.functional.pad(share, (0, 1)) / 2

        def objective(q: Tensor) -> Tensor:
            gap = q.diff()
            if (gap <= 0).any():
                return q.new_tensor(math.inf)
            return (mass * ((q - before).square() / (2 * tau) - log_prob(q[:, None]))).sum() - (share * gap.log()).sum()

        q, value = before, objective(before)
        for _ in range(self.iterations):
            gradient, diagonal, beside = _derivatives(log_prob, q, before, mass, share, tau)
            change = _tridiagonal(diagonal, beside, gradient)
            fall, size = (gradient * change).sum(), 1.0
            while (lower := objective(q - size * change)) > value - 1e-4 * size * fall + ROUNDED and size > 1e-10:
                size /= 2
            q, value = q - size * change, lower
            if fall < ROUNDED:
                return q
        raise ArithmeticError(f"exact: the quantiles have not settled after {self.iterations} iterations of Newton's method")

    # ---- What there is to measure.

    def energy(self, descent: Descent, state: State) -> Measured:
        """The divergence on the line, and the one across for each of its axes."""
        target = _mixture("target", descent.target)
        frame, share = _Frame(state["axis"], state["sides"]), self._levels().diff()
        q = state["quantiles"]
        # Simpson's rule on every interval of equal density.
        at = torch.stack([q[:-1], (q[1:] + q[:-1]) / 2, q[1:]])
        outer = -(frame.along(target).log_prob(at[..., None]) * at.new_tensor([1.0, 4.0, 1.0])[:, None]).sum(0) / 6
        line = (share * (outer + (share / q.diff()).log())).sum() / share.sum()
        ratio = (state["std"] / target.stds[0]).square()
        shift = (state["mean"] - frame.across(target.means)[0]).square().sum() / target.stds[0].square()
        across = (shift + (descent.dim - 1) * (ratio - 1 - ratio.log())) / 2
        return Measured(float(line + across), 0.0)

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """The logarithm of the density at points `(n, dim)`, between the nodes by straight lines; -inf beyond them."""
        frame, q = _Frame(state["axis"], state["sides"]), state["quantiles"]
        log_p, middle = (self._levels().diff() / q.diff()).log(), (q[1:] + q[:-1]) / 2
        right, part = _between(middle, (x @ frame.axis).contiguous())
        line = torch.where((part < 0) | (part > 1), -math.inf, log_p[right - 1] * (1 - part) + log_p[right] * part)
        off = (x @ frame.sides.mT - state["mean"]) / state["std"]
        return line - (off.square().sum(-1) + off.shape[-1] * (2 * math.pi * state["std"].square()).log()) / 2

    def weighted(self, state: State) -> tuple[Tensor, Tensor]:
        """PARTS points of every interval on the line, with the mean across it."""
        share, q = self._levels().diff(), state["quantiles"]
        inside = (torch.arange(PARTS, dtype=q.dtype) + 0.5) / PARTS
        along = (q[:-1, None] + q.diff()[:, None] * inside).flatten()
        mass = share.repeat_interleave(PARTS) / (PARTS * share.sum())
        return self._placed(state, along, state["mean"].expand(len(along), -1)), mass

    def sample(self, state: State, n: int, generator: Generator) -> Tensor:
        levels, q = self._levels(), state["quantiles"]
        u = levels[0] + (levels[-1] - levels[0]) * torch.rand(n, generator=generator, dtype=torch.float64)
        right, part = _between(levels, u)
        z = torch.randn(n, len(state["mean"]), generator=generator, dtype=torch.float64)
        return self._placed(state, q[right - 1] * (1 - part) + q[right] * part, state["mean"] + state["std"] * z)

    def _placed(self, state: State, along: Tensor, across: Tensor) -> Tensor:
        return along[:, None] * state["axis"] + across @ state["sides"]

    def length(self, descent: Descent, before: State, after: State) -> float:
        moved, share = (after["quantiles"] - before["quantiles"]), self._levels().diff()
        line = (share * (moved[1:].square() + moved[1:] * moved[:-1] + moved[:-1].square())).sum() / 3
        across = (after["mean"] - before["mean"]).square().sum()
        spread = len(after["mean"]) * (after["std"] - before["std"]).square()
        return math.sqrt(float(line + across + spread))


@dataclass(frozen=True)
class _Frame:
    """The direction of the line, `(dim,)`, and those across it, `(dim - 1, dim)`, all of length 1."""

    axis: Tensor
    sides: Tensor

    @classmethod
    def of(cls, *laws: GaussianMixture) -> "_Frame":
        """That of the first law whose means differ; the first axis where none has such."""
        dim = laws[0].dim
        moves = torch.cat([law.means - law.means[:1] for law in laws])
        far = moves[moves.square().sum(1).argmax()]
        axis = far / far.norm() if far.norm() > SAME else torch.eye(dim, dtype=far.dtype)[0]
        _, _, basis = torch.linalg.svd(axis[None])
        return cls(axis, basis[1:])

    def along(self, law: GaussianMixture) -> GaussianMixture:
        """The law of the places on the line."""
        return GaussianMixture(law.weights, (law.means @ self.axis)[:, None], law.stds)

    def across(self, x: Tensor) -> Tensor:
        """Points' places across the line."""
        return x @ self.sides.mT


def _between(known: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the ascending number to the right of x, and how far x is from the one on the left to it, as a share."""
    right = torch.searchsorted(known, x).clamp(1, len(known) - 1)
    return right, (x - known[right - 1]) / (known[right] - known[right - 1])


def _mixture(name: str, law: object) -> GaussianMixture:
    if not isinstance(law, GaussianMixture):
        raise ValueError(f"name: 'exact' needs a Gaussian mixture as its {name}")
    return law.double()


def _quantiles(law: GaussianMixture, levels: Tensor, iterations: int) -> Tensor:
    """Where a mixture on the line has its levels, by bisection."""
    spread = OUT + 2
    low = (law.means[:, 0] - spread * law.stds).min().expand_as(levels).clone()
    high = (law.means[:, 0] + spread * law.stds).max().expand_as(levels).clone()
    for _ in range(iterations):
        middle = (low + high) / 2
        below = (law.weights * torch.special.ndtr((middle[:, None] - law.means[:, 0]) / law.stds)).sum(1) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _derivatives(
    log_prob: LogProb, q: Tensor, before: Tensor, mass: Tensor, share: Tensor, tau: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient, and diagonal and off-diagonal of the Hessian, of a step's objective; V'' only as far as it is convex with
    what the distance adds.
    """
    with torch.enable_grad():
        at = q.detach().requires_grad_()
        (slope,) = torch.autograd.grad(-log_prob(at[:, None]).sum(), at, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), at)
    pull = share / q.diff()
    stiff = pull / q.diff()
    gradient = mass * (slope.detach() + (q - before) / tau)
    gradient = gradient - torch.nn.functional.pad(pull, (1, 0)) + torch.nn.functional.pad(pull, (0, 1))
    diagonal = mass * (bend.detach() + 1 / tau).clamp_min(0.01 / tau)
    diagonal = diagonal + torch.nn.functional.pad(stiff, (1, 0)) + torch.nn.functional.pad(stiff, (0, 1))
    return gradient, diagonal, -stiff


def _tridiagonal(diagonal: Tensor, beside: Tensor, right: Tensor) -> Tensor:
    """The solution of a symmetric tridiagonal system."""
    from scipy.linalg import solveh_banded  # a quarter of a second that other schemes do not need

    bands = torch.stack([torch.nn.functional.pad(beside, (1, 0)), diagonal])
    return torch.from_numpy(solveh_banded(bands.numpy(), right.numpy()))
