"""Two trained fields at the same points: `data/evaluate/NAME.parquet`, rows `(seed, low, high, metric, value)`.

Points are x ~ p_t on one path, t uniform. A field that was trained on another Gaussian path is brought to this one by time
and scale first, which is exact (see `rectiflow.predictions.Rescheduled`). Each metric is given for t in `[low, high)`: over
tenths, and first over everything that is compared.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow import metrics
from rectiflow.interpolants import INTERPOLANTS, Interpolant
from rectiflow.mixtures import Marginal
from rectiflow.models.model import Field
from rectiflow.models.rescheduled import Rescheduled
from rectiflow.regression import drawn
from rectiflow.solvers import VelocityField
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.io import write_table
from stages.shared.models import read_model
from stages.shared.oracle import read_oracle
from stages.shared.pairs import read_points
from stages.shared.params import load, named
from stages.shared.progress import progress
from stages.shared.rows import Relation
from stages.shared.start import run

WHOLE = (0.05, 0.95)
BINS = [WHOLE, *((k / 10, (k + 1) / 10) for k in range(10))]
DRAWS = 10  # points for each pair of test points


def on(path: Interpolant, field: Field) -> VelocityField:
    """A trained field as a field of `path`."""
    return field if field.path == path else Rescheduled(field, field.path, path)


def points(path: Interpolant, x0: Tensor, x1: Tensor, streams: list[Generator]) -> tuple[Tensor, Tensor]:
    """Times `(seeds, n)` and points `(seeds, n, dim)` of the path, from independent test points of both sides."""
    rows = torch.arange(min(x0.shape[1], x1.shape[1])).repeat(DRAWS)
    found = [drawn(path, a, b, rows, generator)[:2] for a, b, generator in zip(x0, x1, streams, strict=True)]
    t, x = (torch.stack(parts) for parts in zip(*found, strict=True))
    return t, x


def measures(t: np.ndarray, first: np.ndarray, second: np.ndarray, exact: np.ndarray | None) -> Iterator[tuple[Any, ...]]:
    """Rows `(low, high, metric, value)` of one seed, from fields `(n, dim)` at times `(n,)`."""
    for low, high in BINS:
        rows = (t >= max(low, WHOLE[0])) & (t < min(high, WHOLE[1]))
        yield low, high, "difference", metrics.relative_error(second[rows], first[rows])
        yield low, high, "correlation", metrics.correlation(second[rows], first[rows])
        if exact is not None:
            yield low, high, "error_first", metrics.relative_error(first[rows], exact[rows])
            yield low, high, "error_second", metrics.relative_error(second[rows], exact[rows])


def related(
    first: VelocityField, second: VelocityField, oracle: Marginal | None, t: Tensor, x: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Both fields and the closed form at the same points."""
    with torch.no_grad():
        v, w = (field(t, x).cpu().numpy() for field in (first, second))
    return v, w, oracle.velocity(t.double(), x.double()).cpu().numpy() if oracle else None


def main(args: list[str]) -> None:
    """`python -m stages.relate NAME`, NAME a row of `relations`."""
    (name,) = args
    device, row = prepare(), load(Relation, f"relations.{name}")
    fields = [read_model(places.model(places.trained(flow))) for flow in (row.first, row.second)]
    (first, second), seeds = [field.to(device) for field, _ in fields], fields[0][1]
    path = named(INTERPOLANTS, row.path, f"relations.{name}.path") if row.path else first.path
    x0, x1 = (read_points(row.dataset, side, "test")[1].to(device) for side in ("source", "target"))
    t, x = points(path, x0, x1, [stream(f"relate/{row.dataset}", seed) for seed in seeds])
    v, w, exact = related(on(path, first), on(path, second), read_oracle(places.oracle(row.dataset), path), t, x)
    say, rows = progress(f"relate {name}", len(seeds), 2), []
    for k, seed in enumerate(seeds):
        found = list(measures(t[k].cpu().numpy(), v[k], w[k], None if exact is None else exact[k]))
        rows += [(seed, *measure) for measure in found]
        say(k + 1, f"seed {seed}: {found[0][2]} {found[0][3]:.4f}, {found[1][2]} {found[1][3]:.4f}")
    of, low, high, metric, value = zip(*rows, strict=True)
    columns: dict[str, Any] = {"seed": np.array(of, np.int32), "low": np.array(low), "high": np.array(high)}
    write_table(places.evaluated(name), {**columns, "metric": metric, "value": np.array(value)})


if __name__ == "__main__":
    run(main)
