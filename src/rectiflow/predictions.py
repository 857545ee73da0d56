"""What a network predicts along a path, and how every prediction gives every other.

Along a path without latent, `xt = alpha x0 + beta x1`, and every quantity that a network is trained to predict is another
such combination `a x0 + b x1`:

    velocity  alpha' x0 + beta' x1        flow matching (arXiv 2210.02747)
    noise     x0                          "epsilon" (Ho et al., arXiv 2006.11239)
    data      x1                          "x-prediction" (Ramesh et al., arXiv 2204.06125)
    v         beta x0 - alpha x1          "v-prediction" of diffusion (arXiv 2202.00512)
    score     -x0 / alpha                 denoising score matching (Vincent 2011; Song et al., arXiv 2011.13456)

With xt, any one of them gives x0 and x1 by one 2 x 2 linear solve, and so every other. Conditional means obey the same
equations, so that the conversions hold for trained fields: `score` is then `grad log p_t`, if x0 ~ N(0, I).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from rectiflow.interpolants import Interpolant

Row = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Prediction:
    """A quantity `a x0 + b x1`: `row(path, t)` gives a and b, shaped like t.

    `weight(path, t)` multiplies the squared error in the loss, as published. `gaussian_source` says that the quantity
    has its meaning for x0 ~ N(0, I) only.
    """

    row: Callable[[Interpolant, Tensor], Row]
    weight: Callable[[Interpolant, Tensor], Tensor] | None = None
    gaussian_source: bool = True


def _velocity(path: Interpolant, t: Tensor) -> Row:
    _, (a, b, _) = path.rates(t)
    return a, b


def _noise(_: Interpolant, t: Tensor) -> Row:
    return t.new_ones(t.shape), t.new_zeros(t.shape)


def _data(_: Interpolant, t: Tensor) -> Row:
    return t.new_zeros(t.shape), t.new_ones(t.shape)


def _v(path: Interpolant, t: Tensor) -> Row:
    return path.beta(t), -path.alpha(t)


def _score(path: Interpolant, t: Tensor) -> Row:
    return -1 / path.alpha(t), t.new_zeros(t.shape)


def _variance(path: Interpolant, t: Tensor) -> Tensor:
    """`alpha^2`, which makes score matching the noise loss (arXiv 2011.13456)."""
    return path.alpha(t).square()


PREDICTIONS: dict[str, Prediction] = {
    "velocity": Prediction(_velocity, gaussian_source=False),
    "noise": Prediction(_noise),
    "data": Prediction(_data),
    "v": Prediction(_v),
    "score": Prediction(_score, _variance),
}


def solve(rows: tuple[Row, Row], values: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """x0 and x1 from two different combinations of them: `a x0 + b x1 = value` twice, by Cramer's rule."""
    (a, b), (c, d) = ((p[..., None], q[..., None]) for p, q in rows)
    first, second = values
    determinant = a * d - b * c
    return (d * first - b * second) / determinant, (a * second - c * first) / determinant


def combine(row: Row, x0: Tensor, x1: Tensor) -> Tensor:
    """`a x0 + b x1`."""
    a, b = row
    return a[..., None] * x0 + b[..., None] * x1


def ends(path: Interpolant, t: Tensor, **known: Tensor) -> tuple[Tensor, Tensor]:
    """x0 and x1 from any two of `x0`, `x1`, `xt`, `ut` and the names of PREDICTIONS, at times t on a path without latent.

    t is `()` or `(batch,)`, the values `(batch, dim)`. Raises ValueError unless there are two, and for a latent path.
    Where the two do not determine the others (noise and xt where beta is 0), the result is not finite.
    """
    if path.noisy:
        raise ValueError(f"{type(path).__name__} has a latent: two of x0, x1, xt, ut do not give the others")
    if len(known) != 2 or set(known) - set(QUANTITIES):
        raise ValueError(f"ends: {sorted(known)} should be two of {', '.join(QUANTITIES)}")
    (first, one), (second, other) = ((QUANTITIES[name](path, t), value) for name, value in known.items())
    return solve((first, second), (one, other))


def convert(path: Interpolant, t: Tensor, xt: Tensor, value: Tensor, given: str, wanted: str) -> Tensor:
    """The prediction `wanted` from the prediction `given` at the points xt of time t."""
    if given == wanted:
        return value
    return combine(QUANTITIES[wanted](path, t), *ends(path, t, xt=xt, **{given: value}))


def _point(path: Interpolant, t: Tensor) -> Row:
    return path.alpha(t), path.beta(t)


QUANTITIES: dict[str, Callable[[Interpolant, Tensor], Row]] = {
    "x0": _noise,
    "x1": _data,
    "xt": _point,
    "ut": _velocity,
    **{name: prediction.row for name, prediction in PREDICTIONS.items()},
}
