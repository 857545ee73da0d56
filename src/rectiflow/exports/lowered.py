"""Operations that graphs of other programs lack, by operations that they have: `LOWERED` is a table for `make_fx`."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor
from torch._decomp import get_decompositions
from torch.utils._python_dispatch import _disable_current_modes

aten = torch.ops.aten


def solved(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """`a^-1 b` for a triangular matrix of weights, inverted once in double precision."""
    with _disable_current_modes():
        one = torch.eye(a.shape[-1], dtype=torch.float64)
        inverse = torch.linalg.solve_triangular(a.double(), one, upper=upper, left=left, unitriangular=unitriangular).to(
            a.dtype
        )
    found: Tensor = inverse @ b if left else b @ inverse
    return found


def places(ends: Tensor, values: Tensor, *, right: bool = False) -> Tensor:
    """How many of the ends, in ascending order along the last axis, lie before each value, or at it if `right`."""
    ends, values = ends[..., None, :], values[..., None]
    return (ends <= values if right else ends < values).sum(-1)


def erf(x: Tensor) -> Any:
    """The error function in double precision, which ONNX Runtime has in single precision alone: beyond 0 it is
    `1 - t exp(P(t) - x^2)` with `t = 2 / (2 + x)`. At most 1e-15 off.
    """
    if x.dtype != torch.float64:
        return NotImplemented
    size = x.abs()
    t = 2 / (2 + size)
    y, b, c = 4 * t - 2, torch.zeros_like(t), torch.zeros_like(t)
    first, *others = _coefficients()
    for number in reversed(others):  # Clenshaw's recurrence
        b, c = y * b - c + number, b
    tail = t * (first + y * b / 2 - c - size * size).exp()
    return torch.where(x < 0, tail - 1, 1 - tail)


def expm1(x: Tensor) -> Tensor:
    """`exp(x) - 1`, in double precision on the way, as ONNX has it by a difference alone."""
    return (x.double().exp() - 1).to(x.dtype)


@cache
def _coefficients() -> list[float]:
    """Of `P(t) = log(erfcx(2 / t - 2) / t)` on (0, 1] in Chebyshev polynomials of 2 t - 1."""
    from scipy.special import erfcx

    def log_tail(y: np.ndarray) -> np.ndarray:
        t = (y + 1) / 2
        found: np.ndarray = np.log(erfcx(2 / t - 2) / t)
        return found

    interpolate: Any = chebyshev.chebinterpolate  # its types want numbers of one precision alone
    return [float(number) for number in interpolate(log_tail, DEGREE)]


DEGREE = 40

BACKWARD = [aten.silu_backward, aten.sigmoid_backward, aten.tanh_backward, aten.threshold_backward, aten.elu_backward]

LOWERED: dict[Any, Callable[..., Any]] = {
    **get_decompositions(BACKWARD),  # torch's own, for models that are the gradient of something
    aten.linalg_solve_triangular.default: solved,
    aten.searchsorted.Tensor: places,
    aten.erf.default: erf,
    aten.expm1.default: expm1,
}
