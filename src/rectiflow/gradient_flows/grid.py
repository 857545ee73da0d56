"""Entropic steps on a grid, and debiased ones.

With the cost regularised by `eps`, a step is `min KL(gamma | K) + (2 tau / eps) F(gamma^T 1)` over plans whose first
marginal is p_k, `K = exp(-|x - y|^2 / eps)`, and its plan is `a(x) K(x, y) b(y)`: scalings are found in turn (Peyre, SIIMS
2015; Chizat et al., arXiv 1607.05816). K is separable: a product along each axis.

Every such step blurs, as if the entropy had `eps / (4 tau)` more of weight (for F = KL(. | N(0, I)) the variance where it
comes to rest is `1 + eps / (4 tau)`). The debiased step lowers F's entropy by as much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.entropy import LogProb
from rectiflow.gradient_flows.axes import along, spread
from rectiflow.gradient_flows.scheme import Descent, Measured, Scheme, State
from rectiflow.ranges import at_least, positive

AXES = 3  # more have too many cells
CUT = 1e-6  # mass that may lie outside
REACH = 1.4  # cells are at most so many deviations of the kernel wide
FAR = 600.0  # differences of logarithms that double precision still multiplies
CHECKED = 4  # iterations between two looks at what has changed
STIFF = 0.98  # the largest factor, where the energy's own is not known
WIDER = 1.15


@dataclass(frozen=True)
class Grid(Scheme):
    """`cells` along each axis of the box from `low` to `high`, numbers for all axes or one for each.

    `eps` regularises the cost, in its units; `debiased` undoes its blur, and needs `eps < 4 tau`. A step ends when its
    density changes by less than `tolerance` in mass, and fails after `iterations`.
    """

    cells: int = 64
    low: float | Sequence[float] = -6.0
    high: float | Sequence[float] = 7.0
    eps: float = 0.1
    debiased: bool = True
    tolerance: float = 1e-9
    iterations: int = 20_000

    random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(2, cells=self.cells)
        at_least(1, iterations=self.iterations)
        positive(eps=self.eps, tolerance=self.tolerance)

    @property
    def label(self) -> str:
        return f"{'debiased' if self.debiased else 'entropic'} grid, {self.cells} cells, eps {self.eps:g}"

    # ---- The box.

    def axes(self, dim: int) -> list[Tensor]:
        """The cells' centres along each axis. Raises ValueError for a box that is none."""
        low, high = (self._corner(name, dim) for name in ("low", "high"))
        for a, b in zip(low, high, strict=True):
            if not a < b:
                raise ValueError(f"high: {self.high} must be above low, {self.low}")
        return [
            a + (b - a) * (torch.arange(self.cells, dtype=torch.float64) + 0.5) / self.cells
            for a, b in zip(low, high, strict=True)
        ]

    def _corner(self, name: str, dim: int) -> list[float]:
        value = getattr(self, name)
        found = [float(value)] * dim if isinstance(value, int | float) else [float(number) for number in value]
        if len(found) != dim:
            raise ValueError(f"{name}: {value} holds {len(found)} numbers, and there are {dim} axes")
        return found

    def centres(self, dim: int) -> Tensor:
        """All centres, `(cells^dim, dim)`, the last axis first to run."""
        return torch.cartesian_prod(*self.axes(dim)).reshape(-1, dim)

    def sides(self, dim: int) -> list[float]:
        """Of a cell."""
        return [float(axis[1] - axis[0]) for axis in self.axes(dim)]

    def volume(self, dim: int) -> float:
        """Of a cell."""
        return math.prod(self.sides(dim))

    def fits(self, descent: Descent) -> None:
        """Raises ValueError for too many axes, for an `eps` that does not reach the next cell or is too large to be undone,
        and for a box that cuts off more than CUT of the source or, where the energy is a divergence, of the target.
        """
        dim = descent.dim
        if dim > AXES:
            raise ValueError(f"name: 'grid' has {self.cells}^{dim} cells in {dim} dimensions, and is for up to {AXES}")
        wide = max(self.sides(dim))
        least = 2 * (wide / REACH) ** 2
        if self.eps < least:
            raise ValueError(
                f"eps: {self.eps:g} underflows: exp(-|x - y|^2 / eps) does not reach from one cell to the next, {wide:.3g} "
                f"apart; the smallest that does is {math.ceil(1000 * least) / 1000:g}, or take more cells"
            )
        if self.debiased and self.eps >= 4 * descent.tau:
            raise ValueError(f"eps: {self.eps:g} must be less than 4 tau, {4 * descent.tau:g}, to be undone")
        laws: dict[str, LogProb] = {"source": descent.source.log_prob}
        if descent.energy.potential is not None and descent.energy.entropy == 1:
            laws["target"] = lambda x: -descent.energy.outer(x)
        for name, log_prob in laws.items():
            if (missing := self._outside(log_prob, dim)) > CUT:
                raise ValueError(
                    f"high: {self.high} and low, {self.low}, cut off {missing:.1e} of the {name}'s mass; "
                    f"{self._enough(log_prob, dim)} would do"
                )

    def _mass(self, log_prob: LogProb, dim: int) -> float:
        return float(log_prob(self.centres(dim)).exp().sum()) * self.volume(dim)

    def _outside(self, log_prob: LogProb, dim: int) -> float:
        """The mass that a box of twice the size has more, in cells of the same size: both sums miss the same of an edge."""
        corners = zip(self._corner("low", dim), self._corner("high", dim), strict=True)
        low, high = zip(*((a - (b - a) / 2, b + (b - a) / 2) for a, b in corners), strict=True)
        return replace(self, cells=2 * self.cells, low=low, high=high)._mass(log_prob, dim) - self._mass(log_prob, dim)

    def _enough(self, log_prob: LogProb, dim: int) -> str:
        """A box around the same centre that does not cut the law off, with cells of the same size."""
        low, high, factor = self._corner("low", dim), self._corner("high", dim), 1.0
        for _ in range(20):
            factor *= WIDER
            wide = [
                (round((a + b) / 2 - factor * (b - a) / 2, 1), round((a + b) / 2 + factor * (b - a) / 2, 1))
                for a, b in zip(low, high, strict=True)
            ]
            box = Grid(math.ceil(self.cells * factor), [a for a, _ in wide], [b for _, b in wide], self.eps, self.debiased)
            if box._outside(log_prob, dim) <= CUT:
                return f"low {[a for a, _ in wide]} and high {[b for _, b in wide]} with {box.cells} cells"
        return "a much wider box"

    # ---- States: the logarithms of the density and of the last step's second scaling.

    def begin(self, descent: Descent, generator: Generator) -> State:
        shape = [self.cells] * descent.dim
        log_p = descent.source.log_prob(self.centres(descent.dim)).reshape(shape)
        log_p = log_p - (log_p.logsumexp(tuple(range(descent.dim))) + math.log(self.volume(descent.dim)))
        return {"log_density": log_p, "log_b": torch.zeros_like(log_p)}

    def step(self, descent: Descent, state: State, generator: Generator) -> State:
        log_p, log_b = state["log_density"], state["log_b"]
        kernel = Kernel([(axis[:, None] - axis).square() for axis in self.axes(descent.dim)], self.eps)
        volume, outer = self.volume(descent.dim), self._outer(descent, log_p)
        march = Chebyshev(*self._spectrum(descent))
        for k in range(self.iterations):
            log_z = kernel(log_p - kernel(log_b))
            found = self._proximal(descent, outer, log_z) - log_z
            if not k % CHECKED:
                # The marginal of a plan whose first one is p_k exactly: no mass is lost.
                settled = log_b + log_z
                moved = float(((found + log_z).exp() - settled.exp()).abs().sum()) * volume
                if moved < self.tolerance:
                    return {"log_density": settled, "log_b": log_b}
            log_b = march(log_b, found)
        raise ArithmeticError(
            f"grid: a step's density still moves by {moved:.1e} after {self.iterations} iterations: raise eps "
            f"({self.eps:g}) or iterations"
        )

    def _spectrum(self, descent: Descent) -> tuple[float, float]:
        """Between what an iteration multiplies an error of log b by: `1 - 1 / slope` (see `_proximal`), and 0."""
        least = 1 - 1 / self._slope(descent)
        return min(0.0, least), max(0.0, least, STIFF if descent.energy.power else 0.0)

    def _slope(self, descent: Descent) -> float:
        return 1 - 0.5 * self.debiased + 2 * descent.tau / self.eps * descent.energy.entropy

    def _outer(self, descent: Descent, log_p: Tensor) -> Tensor:
        """V on the cells and, of pairs, what the density before the step says: `W * p_k`."""
        outer = descent.energy.outer(self.centres(descent.dim)).reshape(log_p.shape)
        return outer if descent.energy.pair is None else outer + self._gathered(descent, log_p.exp())

    def _gathered(self, descent: Descent, p: Tensor) -> Tensor:
        """`int W(|x - y|) p(y) dy`, by the discrete Fourier transform of a box of twice the size."""
        assert descent.energy.pair is not None
        offsets = [
            torch.cat([axis - axis[0], (axis - axis[0] - axis.numel() * (axis[1] - axis[0]))]) for axis in self.axes(p.ndim)
        ]
        squares = sum(spread(offset.square(), k, p.ndim) for k, offset in enumerate(offsets))
        assert isinstance(squares, Tensor)
        size = [2 * self.cells] * p.ndim
        product = torch.fft.rfftn(descent.energy.pair(squares.sqrt())) * torch.fft.rfftn(p, size)
        found: Tensor = torch.fft.irfftn(product, size)[tuple(slice(0, self.cells) for _ in range(p.ndim))]
        return found * self.volume(p.ndim)

    def _proximal(self, descent: Descent, outer: Tensor, log_z: Tensor) -> Tensor:
        """The logarithm u of the density that minimises `KL(s | z) + (2 tau / eps) F(s)`, less half of the entropy where it
        is debiased: `(1 - 1/2 + c entropy) u + c power / (power - 1) s^(power - 1) = log z - c V`, `c = 2 tau / eps`.
        """
        energy, c = descent.energy, 2 * descent.tau / self.eps
        slope, right = self._slope(descent), log_z - c * outer
        u = right / slope
        if energy.power:
            u = _solved(slope, c * energy.power / (energy.power - 1), energy.power - 1, right)
        return u.clamp(max=math.log(energy.bound)) if energy.bound < math.inf else u

    # ---- What there is to measure.

    def energy(self, descent: Descent, state: State) -> Measured:
        log_p = state["log_density"]
        p, outer = log_p.exp(), descent.energy.outer(self.centres(descent.dim)).reshape(log_p.shape)
        if descent.energy.pair is not None:
            outer = outer + self._gathered(descent, p) / 2
        return Measured(float((p * outer + descent.energy.inner(p)).sum()) * self.volume(descent.dim), 0.0)

    def weighted(self, state: State) -> tuple[Tensor, Tensor]:
        p = state["log_density"].exp().flatten()
        return self.centres(state["log_density"].ndim), p / p.sum()

    def sample(self, state: State, n: int, generator: Generator) -> Tensor:
        """Cells by their masses, and places within them at random."""
        x, mass = self.weighted(state)
        sides = x.new_tensor(self.sides(x.shape[1]))
        rows = torch.multinomial(mass, n, replacement=True, generator=generator)
        return x[rows] + sides * (torch.rand(n, x.shape[1], generator=generator, dtype=x.dtype) - 0.5)

    def length(self, descent: Descent, before: State, after: State) -> float:
        """`tau |grad dF/dp|` in the new density's L2: points of it came from `tau grad dF/dp` further up."""
        log_p, energy = after["log_density"], descent.energy
        p = log_p.exp()
        rise = self._outer(descent, log_p) + energy.entropy * log_p
        if energy.power:
            rise = rise + energy.power / (energy.power - 1) * p ** (energy.power - 1)
        if energy.bound < math.inf:
            rise = torch.where(p > 0.999 * energy.bound, math.nan, rise)
        square = torch.stack(torch.gradient(rise, spacing=self.sides(descent.dim))).square().sum(0)
        known = square.isfinite()
        return descent.tau * math.sqrt(float((p * square)[known].sum()) * self.volume(descent.dim))


@dataclass(frozen=True)
class Kernel:
    """Products with `exp(-|x - y|^2 / eps) h / sqrt(pi eps)` along every axis, on logarithms."""

    squares: list[Tensor]
    eps: float

    @cached_property
    def matrices(self) -> list[Tensor]:
        """One for each axis."""
        return [log_k.exp() for log_k in self.logarithms]

    @cached_property
    def logarithms(self) -> list[Tensor]:
        """Of the matrices."""
        return [-square / self.eps + 0.5 * math.log(float(square[0, 1]) / (math.pi * self.eps)) for square in self.squares]

    def __call__(self, f: Tensor) -> Tensor:
        """`log(K exp(f))`, where differences in f may be larger than double precision can multiply."""
        high, low = f.max(), f.min()
        if float(high - low) < FAR:
            return high + along(self.matrices, (f - high).exp()).log()
        return self._apart(f)

    def _apart(self, f: Tensor) -> Tensor:
        """The same with the part of f that is a sum over axes inside the matrices; where the rest is too large as well,
        every sum is taken by its largest term.
        """
        lines = _lines(f)
        rest = f - sum(spread(line, k, f.ndim) for k, line in enumerate(lines))
        high = rest.max()
        if float(high - rest.min()) < FAR:
            raised = [log_k + line for log_k, line in zip(self.logarithms, lines, strict=True)]
            tops = [part.amax(1, keepdim=True) for part in raised]
            found = along([(part - top).exp() for part, top in zip(raised, tops, strict=True)], (rest - high).exp()).log()
            return found + high + sum(spread(top, k, f.ndim) for k, top in enumerate(tops))
        for k, log_k in enumerate(self.logarithms):
            f = (log_k.reshape(*log_k.shape, *[1] * (f.ndim - 1)) + f.movedim(k, 0)[None]).logsumexp(1).movedim(0, k)
        return f


def _lines(f: Tensor) -> list[Tensor]:
    """f along each axis through its largest value, less that value but for the first axis."""
    top = [int(i) for i in torch.unravel_index(f.argmax(), f.shape)]
    lines = [f[tuple(slice(None) if i == k else top[i] for i in range(f.ndim))] for k in range(f.ndim)]
    return [lines[0], *(line - f[tuple(top)] for line in lines[1:])]


class Chebyshev:
    """The semi-iteration that speeds up `x <- G(x)` where errors are multiplied by factors between `low` and `high`, less
    than 1 (Golub and Varga, 1961).
    """

    def __init__(self, low: float, high: float) -> None:
        self.step, self.radius = 2 / (2 - low - high), (high - low) / (2 - low - high)
        self.before: Tensor | None = None
        self.weight = 1.0

    def __call__(self, x: Tensor, found: Tensor) -> Tensor:
        """What follows x, for which G gives `found`."""
        shifted = x + self.step * (found - x)
        if self.before is None:
            self.before, self.weight = x, 2.0
            return shifted
        self.weight = 1 / (1 - self.radius**2 * self.weight / 4)
        after = self.before + self.weight * (shifted - self.before)
        self.before = x
        return after


def _solved(slope: float, factor: float, power: float, right: Tensor) -> Tensor:
    """u with `slope u + factor exp(power u) = right`, by Newton's method from above, where it falls monotonically."""
    # Both terms alone give a bound: u <= right / slope, and exp(power u) <= (right - slope u) / factor.
    u = torch.minimum(right / slope, torch.where(right > slope, (right.clamp_min(1e-300) / factor).log() / power, torch.inf))
    u = torch.where(u.isfinite(), u, right / slope)
    for _ in range(60):
        grown = factor * (power * u).exp()
        change = (slope * u + grown - right) / (slope + power * grown)
        u = u - change
        if float(change.abs().max()) < 1e-13:
            break
    return u
