"""The regression that flow matching solves: points of the path at random times, and what is predicted there."""

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.predictions import PREDICTIONS, combine
from rectiflow.rows import Rows


def drawn(
    path: Interpolant,
    x0: Tensor | Rows,
    x1: Tensor | Rows,
    rows: Tensor,
    generator: Generator,
    prediction: str = "velocity",
) -> tuple[Tensor, Tensor, Tensor]:
    """`(t, xt, target)` for the pairs of one seed named by `rows`, which may have any shape; t uniform on the path's span.

    The target is what `prediction` names, on a path with latent the velocity alone.
    """
    low, high = path.span
    # Drawn on the CPU whatever the device, so that a seed means the same batches everywhere.
    t = (low + (high - low) * torch.rand(rows.shape, generator=generator)).to(x0.device)
    z = torch.randn((*rows.shape, x0.shape[-1]), generator=generator).to(x0.device) if path.noisy else None
    rows = rows.to(x0.device)
    xt, ut = path.path(t, x0[rows], x1[rows], z)
    return t, xt, ut if prediction == "velocity" else combine(PREDICTIONS[prediction].row(path, t), x0[rows], x1[rows])
