"""Draw from a trained model, from the same source points for every method.

Writes `data/sample/NAME/samples.parquet`, the draws of every sampler that the model can serve. A velocity field gets
`trajectories.parquet`, the states of the reference solve, from which the path metrics are computed; where there is a closed
form `field.parquet`, the field at points of its path beside it; and `history.parquet`, draws after so many training steps,
where the weights were kept. Of tokens, which are integers, some rows are followed by the reference sampler:
`states.parquet`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field as Bounded
from torch import Tensor

from rectiflow.mixtures import Marginal
from rectiflow.models.model import Field, Model, Tokens
from rectiflow.regression import drawn
from rectiflow.samplers import SAMPLERS, Sampler, sample
from rectiflow.solvers import Solution
from rectiflow.token_laws import STORED
from stages.shared import places
from stages.shared.compute import prepare, stream
from stages.shared.files import copy
from stages.shared.io import write_table
from stages.shared.models import read_history, read_model
from stages.shared.oracle import read_oracle
from stages.shared.pairs import read_labelled
from stages.shared.params import GRID, Settings, load, named, read, section
from stages.shared.places import ENDED
from stages.shared.progress import progress
from stages.shared.rows import Draws
from stages.shared.start import run

REFERENCE, ONE_STEP = "reference", "one_step"  # roles: what headline numbers are measured on


class Sample(Settings):
    """`samplers` to draw the test set with; `trajectory_steps` Euler steps for `trajectory_points` paths of each seed."""

    samplers: list[dict[str, Any]] = Bounded(min_length=1)
    trajectory_steps: int = Bounded(ge=2)
    trajectory_points: int = Bounded(ge=2)

    @property
    def reference(self) -> Sampler:
        """The solve that paths are measured on."""
        return SAMPLERS["euler"](steps=self.trajectory_steps)


class Drawn(NamedTuple):
    """The draws of one sampler, a solution for each seed, and their role."""

    sampler: Sampler
    solutions: list[Solution]
    role: str


def build_samplers(specs: list[dict[str, Any]], key: str) -> list[Sampler]:
    """Samplers in the order given."""
    return [named(SAMPLERS, spec, f"{key}.{k}") for k, spec in enumerate(specs)]


def serving(samplers: Sequence[Sampler], kind: type[Model]) -> list[Sampler]:
    """Those that can draw from a kind of model."""
    return [sampler for sampler in samplers if issubclass(kind, sampler.needs)]


def role(sampler: Sampler, samplers: Sequence[Sampler], reference: Sampler) -> str:
    """The reference is the reference solve or, for a model that it cannot draw from, the first sampler that can."""
    if sampler == (reference if reference in samplers else samplers[0]):
        return REFERENCE
    once, euler = SAMPLERS["once"](), SAMPLERS["euler"](steps=1)  # the map that a model is, or else the field's one step
    return ONE_STEP if sampler == (once if once in samplers else euler) else ""


def draws(
    name: str,
    model: Model,
    samplers: Sequence[Sampler],
    reference: Sampler,
    x0: Tensor,
    given: Tensor | None,
    seeds: list[int],
) -> list[Drawn]:
    """What every sampler makes of the same source points `(seeds, n, dim)`, and of the same conditions."""
    say, found = progress(f"sample {name}", len(samplers), 2), []
    for sampler in samplers:
        streams = [stream(f"sample/{name}/{sampler.label}/{sampler.steps}", seed) for seed in seeds]
        solutions = sample(model, sampler, x0, streams, given=given)
        found.append(Drawn(sampler, solutions, role(sampler, samplers, reference)))
        say(len(found), f"{sampler.label}, {found[-1].solutions[0].nfe} evaluations")
    return found


def on_disk(x: Tensor) -> np.ndarray:
    """Points as they are written, tokens in as few bytes as hold them."""
    return (x if x.is_floating_point() else x.to(STORED)).cpu().numpy()


def samples_table(seeds: list[int], found: list[Drawn], label: Tensor | None = None) -> dict[str, Any]:
    """Rows `(seed, draw, solver, nfe, role, x)`, seed after seed; `draw` is the sampler's place in the list. With the
    `label` `(seeds, n)` that was asked for, where it was.
    """
    rows = [
        (seed, place, each.sampler.label, each.solutions[k].nfe, each.role, on_disk(each.solutions[k].end[0]))
        for k, seed in enumerate(seeds)
        for place, each in enumerate(found)
    ]
    seed, place, solver, nfe, roles, x = zip(*rows, strict=True)
    repeat = [len(points) for points in x]
    numbers = {"seed": np.array(seed, np.int32), "draw": np.array(place, np.int32)}
    columns = {**numbers, "solver": solver, "nfe": np.array(nfe, np.int32), "role": roles}
    table = {name: np.repeat(column, repeat) for name, column in columns.items()} | {"x": np.concatenate(x)}
    return table if label is None else table | {"label": np.repeat(label.int().numpy(), len(found), 0).reshape(-1)}


def trajectories_table(seeds: list[int], solutions: list[Solution]) -> dict[str, Any]:
    """Rows `(seed, t, x)`: for each seed all points at the first time, then all at the next."""
    times, points = len(solutions[0].t), solutions[0].x.shape[2]
    t = np.tile(np.repeat(solutions[0].t.double().cpu().numpy(), points), len(seeds))
    x = np.concatenate([on_disk(solution.x[:, 0].reshape(times * points, -1)) for solution in solutions])
    return {"seed": np.repeat(np.array(seeds, np.int32), times * points), "t": t, "x": x}


def history_table(seeds: list[int], found: list[tuple[int, list[Solution]]]) -> dict[str, Any]:
    """Rows `(seed, step, x)`: draws of the model after so many training steps, step after step."""
    x = np.stack([[each.end[0].cpu().numpy() for each in solutions] for _, solutions in found])  # step, seed, n, dim
    step, seed = np.broadcast_arrays(np.array([[step] for step, _ in found], np.int32), np.array(seeds, np.int32))
    columns = {"seed": seed, "step": step}
    return {name: np.repeat(column, x.shape[2]) for name, column in columns.items()} | {"x": x.reshape(-1, x.shape[-1])}


def field_table(
    seeds: list[int], field: Field, marginal: Marginal, ends: tuple[Tensor, Tensor], purpose: str
) -> dict[str, Any]:
    """Rows `(seed, t, x, ut, v, exact)`: what is regressed, the field and the closed form at x ~ p_t, t uniform on the
    span.
    """
    n = min(ends[0].shape[1], ends[1].shape[1])
    found = [
        drawn(field.path, x0[:n], x1[:n], torch.arange(n), stream(purpose, seed))
        for x0, x1, seed in zip(*ends, seeds, strict=True)
    ]
    t, x, ut = (torch.stack(parts) for parts in zip(*found, strict=True))
    with torch.no_grad():
        v, exact = field(t, x), marginal.velocity(t.double(), x.double())
    vectors = {"x": x, "ut": ut, "v": v, "exact": exact}
    columns = {"t": t.flatten(), **{name: part.flatten(0, 1) for name, part in vectors.items()}}
    return {"seed": np.repeat(np.array(seeds, np.int32), n)} | {k: c.cpu().numpy() for k, c in columns.items()}


def write_paths(
    name: str, settings: Sample, field: Field, seeds: list[int], x0: Tensor, given: Tensor | None = None
) -> None:
    """What is drawn of velocity fields alone: paths, and end points along the training where it kept weights."""
    nothing = [None] * len(seeds)
    few = settings.trajectory_points
    some = None if given is None else given[:, :few]
    paths = sample(field, settings.reference, x0[:, :few], nothing, trajectory=True, given=some)
    write_table(places.trajectories(name), trajectories_table(seeds, paths))
    if (kept := places.kept(name)).exists():
        then = [(k, sample(model, settings.reference, x0, nothing, given=given)) for k, model in read_history(kept, field)]
        write_table(places.history(name), history_table(seeds, then))


def write_states(
    name: str, few: int, model: Tokens, drawn: Drawn, seeds: list[int], x0: Tensor, given: Tensor | None
) -> None:
    """What the first few rows of tokens are on their way, by the sampler of a draw."""
    streams = [stream(f"sample/{name}/states", seed) for seed in seeds]
    some = None if given is None else given[:, :few]
    followed = sample(model, drawn.sampler, x0[:, :few], streams, trajectory=True, given=some)
    write_table(places.states(name), trajectories_table(seeds, followed))


def main(args: list[str]) -> None:
    """`python -m stages.sample NAME`, NAME a row of `flows`."""
    (name,) = args
    device = prepare()
    if (note := places.trained(name) / ENDED).exists():
        return copy(note, places.sampled(name) / ENDED)
    settings, own = load(Sample, "sample"), load(Draws, f"samples.{name}", GRID)
    dataset = section(read(GRID), f"flows.{name}.dataset", GRID)
    model, seeds = read_model(places.model(places.trained(name)))
    model = model.to(device)
    source, target = (read_labelled(dataset, side, "test")[1].to(device) for side in ("source", "target"))
    x0, x1 = source.x[:], target.x[:]
    # Draws are asked to be what the test set's rows are.
    given, label = (target.given(), target.label) if model.conditional else (None, None)
    samplers = serving(build_samplers(settings.samplers, "sample.samplers"), type(model))
    samplers += build_samplers(own.samplers, f"{GRID}: samples.{name}.samplers")
    found = draws(name, model, samplers, settings.reference, x0, given, seeds)
    write_table(places.samples(name), samples_table(seeds, found, None if label is None else label.cpu()))
    if isinstance(model, Tokens):
        write_states(name, settings.trajectory_points, model, found[0], seeds, x0, given)
    if isinstance(model, Field):
        write_paths(name, settings, model, seeds, x0, given)
        # The law of xt is known for independent pairs alone: not for optimal ones, not for those an earlier flow drew.
        if own.independent and (marginal := read_oracle(places.oracle(dataset), model.path)):
            write_table(places.field(name), field_table(seeds, model, marginal, (x0, x1), f"sample/{dataset}"))
    return None


if __name__ == "__main__":
    run(main)
