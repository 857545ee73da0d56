"""Draw from a trained flow, from the same source points for every method.

Writes `data/sample/NAME/samples.parquet` (every solver of `sample.solvers`), `trajectories.parquet` (states of the
reference Euler solve, from which the path metrics are computed), `field.parquet` (the field at points of the training
path beside the closed form, where there is one) and `history.parquet` (draws after so many training steps, where the
weights were kept).
"""

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor

from rectiflow.mixtures import Marginal
from rectiflow.models.velocity import Velocity
from rectiflow.regression import draw
from rectiflow.samplers import SAMPLERS, Sampler
from rectiflow.solvers import SOLVERS, TABLEAUX, RungeKutta, Solution, Solver
from stages.shared.compute import prepare, stream
from stages.shared.io import DATA, ENDED, copy, write_table
from stages.shared.models import read_history, read_velocity
from stages.shared.oracle import read_oracle
from stages.shared.params import Settings, load, named
from stages.shared.points import read_points
from stages.shared.progress import progress
from stages.shared.rows import Flow, Method
from stages.shared.start import run


class Sample(Settings):
    """`solvers` to draw the test set with; `trajectory_steps` Euler steps for `trajectory_points` paths of each seed."""

    solvers: list[dict[str, Any]] = Field(min_length=1)
    trajectory_steps: int = Field(ge=2)
    trajectory_points: int = Field(ge=2)


def build_solvers(specs: list[dict[str, Any]], key: str = "sample.solvers") -> list[tuple[str, Solver]]:
    """The solvers and their names, in the order given."""
    return [(str(spec.get("name")), named(SOLVERS, spec, f"{key}.{k}")) for k, spec in enumerate(specs)]


def build_samplers(specs: list[dict[str, Any]], key: str) -> list[Sampler]:
    """The stochastic samplers of a method, in the order given."""
    return [named(SAMPLERS, spec, f"{key}.{k}") for k, spec in enumerate(specs)]


def solve(velocity: Velocity, solver: Solver, x0: Tensor, trajectory: bool = False) -> list[Solution]:
    """One solution for each seed; x0 is `(seeds, n, dim)`. Seeds are solved apart, as adaptive steps would mix them."""
    start = velocity.path.start(x0)
    with torch.no_grad():
        return [solver(velocity.seed(k), start[k : k + 1], trajectory) for k in range(len(x0))]


def sample(velocity: Velocity, sampler: Sampler, x0: Tensor, streams: list[Generator]) -> list[Solution]:
    """The same by a stochastic sampler; each seed draws its noise from a stream of its own."""
    with torch.no_grad():
        return [sampler(velocity.seed(k), x0[k : k + 1], velocity.path, streams[k]) for k in range(len(x0))]


def samples_table(seeds: list[int], drawn: list[tuple[str, list[Solution]]]) -> dict[str, Any]:
    """Rows `(seed, draw, solver, nfe, x)`, seed after seed; `draw` is the solver's place in the list."""
    rows = [
        (seed, place, name, solutions[k].nfe, solutions[k].end[0].cpu().numpy())
        for k, seed in enumerate(seeds)
        for place, (name, solutions) in enumerate(drawn)
    ]
    repeat = [len(x) for *_, x in rows]
    return {
        "seed": np.repeat(np.array([row[0] for row in rows], np.int32), repeat),
        "draw": np.repeat(np.array([row[1] for row in rows], np.int32), repeat),
        "solver": np.repeat([row[2] for row in rows], repeat),
        "nfe": np.repeat(np.array([row[3] for row in rows], np.int32), repeat),
        "x": np.concatenate([row[4] for row in rows]),
    }


def trajectories_table(seeds: list[int], solutions: list[Solution]) -> dict[str, Any]:
    """Rows `(seed, t, x)`: for each seed all points at the first time, then all at the next."""
    times, points = len(solutions[0].t), solutions[0].x.shape[2]
    t = np.tile(np.repeat(solutions[0].t.double().cpu().numpy(), points), len(seeds))
    x = np.concatenate([solution.x[:, 0].reshape(times * points, -1).cpu().numpy() for solution in solutions])
    return {"seed": np.repeat(np.array(seeds, np.int32), times * points), "t": t, "x": x}


def history_table(seeds: list[int], drawn: list[tuple[int, list[Solution]]]) -> dict[str, Any]:
    """Rows `(seed, step, x)`: draws of the field after so many training steps, step after step."""
    x = np.stack([[found.end[0].cpu().numpy() for found in solutions] for _, solutions in drawn])  # step, seed, n, dim
    step, seed = np.broadcast_arrays(np.array([[step] for step, _ in drawn], np.int32), np.array(seeds, np.int32))
    columns = {"seed": seed, "step": step}
    return {name: np.repeat(column, x.shape[2]) for name, column in columns.items()} | {"x": x.reshape(-1, x.shape[-1])}


def field_table(
    seeds: list[int], velocity: Velocity, marginal: Marginal | None, ends: tuple[Tensor, Tensor], purpose: str
) -> dict[str, Any]:
    """Rows `(seed, t, x, ut, v, exact)`: what is regressed, the field and the closed form at x ~ p_t, t uniform on the span.

    Without a closed form there is nothing to compare, and no rows.
    """
    if marginal is None:
        nothing = np.zeros((0, ends[0].shape[-1]))
        return {"seed": np.zeros(0, np.int32), "t": np.zeros(0)} | dict.fromkeys(("x", "ut", "v", "exact"), nothing)
    n = min(ends[0].shape[1], ends[1].shape[1])
    drawn = [
        draw(velocity.path, x0[:n], x1[:n], torch.arange(n), stream(purpose, seed))
        for x0, x1, seed in zip(*ends, seeds, strict=True)
    ]
    t, x, ut = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    with torch.no_grad():
        v, exact = velocity(t, x), marginal.velocity(t.double(), x.double())
    vectors = {"x": x, "ut": ut, "v": v, "exact": exact}
    columns = {"t": t.flatten(), **{name: part.flatten(0, 1) for name, part in vectors.items()}}
    return {"seed": np.repeat(np.array(seeds, np.int32), n)} | {k: c.cpu().numpy() for k, c in columns.items()}


def main(args: list[str]) -> None:
    """`python -m stages.sample NAME`, NAME a row of `flows`."""
    (name,) = args
    device = prepare()
    if (ended := DATA / "train" / name / ENDED).exists():
        return copy(ended, DATA / "sample" / name / ENDED)
    settings, flow = load(Sample, "sample"), load(Flow, f"flows.{name}")
    method = load(Method, f"methods.{flow.method}")
    solvers = build_solvers(settings.solvers)
    velocity, seeds = read_velocity(DATA / "train" / name / "velocity.safetensors")
    velocity = velocity.to(device)
    points = DATA / "generate" / flow.dataset / "points.parquet"
    x0, x1 = (read_points(points, side, "test")[1].to(device) for side in ("source", "target"))

    samplers = [] if flow.rectified else build_samplers(method.samplers, f"methods.{flow.method}.samplers")
    say, drawn = progress(f"sample {name}", len(solvers) + len(samplers), 2), []
    for kind, solver in solvers:
        drawn.append((kind, solve(velocity, solver, x0)))
        say(len(drawn), f"{kind}, {drawn[-1][1][0].nfe} evaluations")
    for sampler in samplers:
        streams = [stream(f"sample/{name}/{sampler.label}/{sampler.steps}", seed) for seed in seeds]
        drawn.append((sampler.label, sample(velocity, sampler, x0, streams)))
        say(len(drawn), f"{sampler.label}, {drawn[-1][1][0].nfe} evaluations")
    reference = RungeKutta(TABLEAUX["euler"], settings.trajectory_steps)
    paths = solve(velocity, reference, x0[:, : settings.trajectory_points], trajectory=True)

    folder, kept = DATA / "sample" / name, DATA / "train" / name / "history.safetensors"
    if kept.exists():
        history = [(step, solve(then, reference, x0)) for step, then in read_history(kept, velocity)]
        write_table(folder / "history.parquet", history_table(seeds, history))
    write_table(folder / "samples.parquet", samples_table(seeds, drawn))
    write_table(folder / "trajectories.parquet", trajectories_table(seeds, paths))
    # The law of xt is known for independent pairs alone: not for optimal ones, not for those an earlier flow drew.
    known = method.independent and not flow.rectified
    marginal = read_oracle(DATA / "generate" / flow.dataset / "oracle.parquet", velocity.path) if known else None
    write_table(folder / "field.parquet", field_table(seeds, velocity, marginal, (x0, x1), f"sample/{flow.dataset}"))


if __name__ == "__main__":
    run(main)
