"""Distributions in the plane that are drawn by a formula, with their densities where they have one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from rectiflow.entropy import LogProb, blurred, entropy, nodes


@dataclass(frozen=True)
class Law:
    """A distribution given by its sampling function and, where it has one, by its log density: `log_prob(x)` in nats for
    points x `(n, dim)`, and the entropy, which takes a while.
    """

    draw: Callable[[int, Generator], Tensor]
    log_prob: LogProb | None = None
    entropy: Callable[[], float] | None = None

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.draw(n, generator)


def _curve(
    draw: Callable[[int, Generator], Tensor],
    arcs: Sequence[tuple[Tensor, Tensor]],
    noise: float,
    scale: float,
    centre: Tensor,
) -> Law:
    """`scale (c - centre + noise z)` for points c of a curve, given by the nodes and weights of its arcs, z ~ N(0, I)."""
    if not (noise > 0 and scale > 0):
        return Law(draw)  # without a density
    points, weights = (torch.cat(part) for part in zip(*arcs, strict=True))
    log_prob = blurred(points, weights / weights.sum(), noise)
    low, high = ((edge + sign * 8 * noise).tolist() for edge, sign in ((points.amin(0), -1), (points.amax(0), 1)))
    return Law(
        draw,
        lambda x: log_prob(x.double() / scale + centre) - 2 * math.log(scale),
        lambda: entropy(log_prob, low, high, noise / 3) + 2 * math.log(scale),
    )


def _panels(length: float, noise: float) -> int:
    """So many that a panel is shorter than the blur."""
    return max(16, math.ceil(3 * length / max(noise, 1e-3)))


def _uniform(n: int, generator: Generator, columns: int = 1) -> Tensor:
    return torch.rand(n, columns, generator=generator).squeeze(1)


def _blurred(curve: Tensor, noise: float, generator: Generator) -> Tensor:
    return curve + noise * torch.randn(curve.shape, generator=generator)


def two_moons(noise: float, scale: float) -> Law:
    """Two interleaved half circles of radius 1, blurred by `noise`, then times `scale` and centred near the origin."""

    def draw(n: int, generator: Generator) -> Tensor:
        angle, upper = math.pi * _uniform(n, generator), _uniform(n, generator) < 0.5
        x = torch.where(upper, angle.cos(), 1 - angle.cos())
        y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
        return scale * (_blurred(torch.stack([x, y], 1), noise, generator) - torch.tensor([0.5, 0.25]))

    halves = (
        lambda angle: torch.stack([angle.cos(), angle.sin()], 1),
        lambda angle: torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1),
    )
    arcs = [nodes(half, 0, math.pi, _panels(math.pi, noise)) for half in halves]
    return _curve(draw, arcs, noise, scale, torch.tensor([0.5, 0.25], dtype=torch.float64))


def checkerboard_squares(scale: float) -> Law:
    """Uniform on the eight black squares of a 4 x 4 board with sides `2 scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        corner = torch.stack([column, row], 1)
        return scale * ((corner + _uniform(n, generator, 2)) / 2 - 1)

    def log_prob(x: Tensor) -> Tensor:
        place = (x.double() / scale + 1) * 2
        black = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for back in (0.0, 1e-5), (1e-5, 0.0), (0.0, 0.0), (1e-5, 1e-5):  # a draw may be rounded onto the next square
            column, row = (place - torch.tensor(back, dtype=place.dtype, device=x.device)).floor().unbind(1)
            black |= (column + row) % 2 == 0
        inside = (x.abs() <= abs(scale)).all(1) & black
        return torch.where(inside, -area(), -math.inf).double()

    def area() -> float:
        return math.log(8 * (scale / 2) ** 2)

    return Law(draw, log_prob, area) if scale else Law(draw)


def s_curve(noise: float, scale: float) -> Law:
    """An S of two three-quarter circles of radius 1, one above the other, blurred by `noise`, then times `scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        angle = 3 * math.pi * (_uniform(n, generator) - 0.5)
        curve = torch.stack([angle.sin(), angle.sign() * (angle.cos() - 1)], 1)
        return scale * _blurred(curve, noise, generator)

    def half(sign: float) -> Callable[[Tensor], Tensor]:
        return lambda angle: torch.stack([angle.sin(), sign * (angle.cos() - 1)], 1)

    end, panels = 1.5 * math.pi, _panels(1.5 * math.pi, noise)
    arcs = [nodes(half(-1), -end, 0, panels), nodes(half(1), 0, end, panels)]
    return _curve(draw, arcs, noise, scale, torch.zeros(2, dtype=torch.float64))


def two_spirals(noise: float, scale: float, turns: float) -> Law:
    """Two spiral arms, each the other turned by half a circle, reaching radius `scale`."""

    def draw(n: int, generator: Generator) -> Tensor:
        radius, arm = _uniform(n, generator).sqrt(), _uniform(n, generator) < 0.5
        angle = 2 * math.pi * turns * radius
        curve = torch.where(arm, 1.0, -1.0)[:, None] * radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        return scale * _blurred(curve, noise, generator)

    def arm(sign: float) -> Callable[[Tensor], Tensor]:
        return lambda r: (
            sign * r[:, None] * torch.stack([(2 * math.pi * turns * r).cos(), (2 * math.pi * turns * r).sin()], 1)
        )

    arcs = [nodes(arm(sign), 0, 1, _panels(math.hypot(1, 2 * math.pi * turns), noise)) for sign in (1, -1)]
    arcs = [(points, weights * points.norm(dim=1)) for points, weights in arcs]  # the radius has the density 2 r
    return _curve(draw, arcs, noise, scale, torch.zeros(2, dtype=torch.float64))
