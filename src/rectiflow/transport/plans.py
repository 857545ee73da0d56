"""Plans that relax the problem of optimal pairs: entropic, unbalanced, partial."""

import math

import numpy as np

TOLERANCE = 1e-6  # how far a plan may be from where its iterations settle, in total mass


def _check_finite(cost: np.ndarray) -> None:
    if not np.isfinite(cost).all():
        raise ArithmeticError("the transport cost is not finite: the samples contain NaN or infinite values")


def entropic_plan(cost: np.ndarray, reg: float, reg_m: float = math.inf, iterations: int = 10_000) -> np.ndarray:
    """`argmin_P <P, cost> + reg KL(P | a b) + reg_m KL(P 1 | a) + reg_m KL(P^T 1 | b)`, `(n, m)`, a and b uniform.

    With `reg_m` infinite the marginals are a and b (Cuturi 2013), else mass may be left out (Chizat et al., arXiv
    1607.05816). Sinkhorn's iterations on the potentials, in the log domain, where nothing underflows: POT's unbalanced
    solvers lose the outliers' rows, and with them the plan. Raises ArithmeticError when the marginals have not settled.
    """
    import torch  # a second that distances do not need

    _check_finite(cost)
    kernel = torch.from_numpy(-cost / reg)
    n, m = cost.shape
    share = 1 / (1 + reg / reg_m)
    f, g = kernel.new_zeros(n), kernel.new_zeros(m)  # potentials over reg
    off = math.inf
    for _ in range(iterations):
        before = g
        f = -share * ((kernel + g).logsumexp(1) - math.log(m))
        g = -share * ((kernel + f[:, None]).logsumexp(0) - math.log(n))
        # By how much the columns' mass still changed; the rows' is what the last f made it.
        off = float(torch.exp(g - before).sub_(1).abs_().mean())
        if off < TOLERANCE:
            return torch.exp(kernel + f[:, None] + g - math.log(n * m)).numpy()
    raise ArithmeticError(
        f"sinkhorn: the marginals of the plan still move by {off:.1e} after {iterations} iterations: "
        f"raise reg ({reg:g}; the costs go up to {cost.max():.3g}) or iterations"
    )


def partial_plan(cost: np.ndarray, mass: float) -> np.ndarray:
    """`argmin_P <P, cost>` over plans of total `mass` below uniform marginals, `(n, m)`, exact, by POT's network simplex."""
    import ot

    _check_finite(cost)
    a, b = (np.full(n, 1 / n) for n in cost.shape)
    plan: np.ndarray
    plan, log = ot.partial.partial_wasserstein(a, b, cost, m=mass, log=True)
    if not np.isclose(plan.sum(), mass, rtol=1e-6):
        raise ArithmeticError(f"partial: the plan has mass {plan.sum():.6g} instead of {mass:g}: {log.get('warning')}")
    return plan
