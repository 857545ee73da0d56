"""Roll out what a conditional model says is next, beside the system that it learned from: `data/evaluate/rollout/NAME`.

From states that no model was trained on, all follow the same actions, which change every `hold` steps. The system is rolled
out `tracks` times from every start, which gives a band around each that holds 95 % of its roll-outs whole, in every state
and the energy (see `rectiflow.rollouts`), and once more, which is the floor.

`measures.parquet` has rows as those of `stages.evaluate`, whose evaluations are those of a whole roll-out. `tracks.parquet`
has the states of the roll-outs, rows `(seed, solver, nfe, role, start, track, step, s, energy)`, those without a solver the
system's: track 0 is what is measured, the others are further ones from the first starts. `bands.parquet` has the ends of the
bands of these, states and then the energy, rows `(seed, start, step, low, high)`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow import metrics
from rectiflow.models.model import Model
from rectiflow.rollouts import Band, band, changes, drift, held, roll
from rectiflow.samplers import Sampler, counted
from rectiflow.transitions import Transitions
from stages.shared import places, rollouts
from stages.shared.compute import prepare, stream
from stages.shared.io import write_table
from stages.shared.models import read_model
from stages.shared.params import GRID, load, parse
from stages.shared.progress import progress
from stages.shared.rollouts import Rolled
from stages.shared.rows import MeasuredRow, load_workers
from stages.shared.start import run
from stages.shared.systems import given_of, law_of, samplers_of
from stages.shared.tasks import Draw, Task, write_measures

SHOWN, FAN = 4, 30  # starts whose bands are written, and roll-outs from each
AT_ONCE = 20000  # roll-outs of the system
LATE = 5  # times of the last half whose states are compared


class Truth(NamedTuple):
    """What the system does from the starts s `(n, dim)` of one seed under actions `(steps, n, actions)`: the bands around
    them, the energies of all its roll-outs `(n, tracks, steps)`, the states of one from each start, and of another, which
    has no part in the bands, `(n, steps, dim)`, of some from the first starts, `(SHOWN FAN, steps, dim)`, and the deviations
    that states have, `(dim,)`.
    """

    s: Tensor
    actions: Tensor
    bands: list[Band]
    energies: np.ndarray
    first: np.ndarray
    other: np.ndarray
    fans: np.ndarray
    deviation: np.ndarray


def simulate(law: Transitions, settings: Rolled, generator: Generator) -> Truth:
    """The system's roll-outs, some starts at a time: those of all are not in memory together."""
    system, n, many = law.system, settings.starts, settings.tracks
    s = system.starts(n, generator)
    actions = [system.box(n, generator)[1] for _ in range(changes(settings.steps, settings.hold))]
    acts = held(torch.stack(actions), settings.steps, settings.hold)

    def tracks(s: Tensor, acts: Tensor) -> np.ndarray:
        return torch.stack(roll(lambda s, a: system.step(s, a, generator), s, acts), 1).numpy()

    bands, energies, some = list[Band](), list[np.ndarray](), list[np.ndarray]()
    for part in torch.arange(n).split(max(1, AT_ONCE // many)):
        rows = part.repeat_interleave(many)
        states = tracks(s[rows], acts[:, rows]).reshape(len(part), many, settings.steps, law.dim)
        bands += [band(watched(law, of)) for of in states]
        energies.append(energy(law, states))
        some.append(states[:, : FAN + 1])
    found = np.concatenate(some)
    first, fans = found[:, 0], found[:SHOWN, 1:].reshape(-1, settings.steps, law.dim)
    deviation = first.reshape(-1, law.dim).std(0)
    return Truth(s, acts, bands, np.concatenate(energies), first, tracks(s, acts), fans, deviation)


def energy(law: Transitions, states: np.ndarray) -> np.ndarray:
    """The energy of states `(..., dim)`."""
    return law.system.energy(torch.from_numpy(states)).numpy()


def watched(law: Transitions, states: np.ndarray) -> np.ndarray:
    """What is watched of states `(..., dim)`: themselves and their energy."""
    return np.concatenate([states, energy(law, states)[..., None]], -1)


def follow(
    model: Model, sampler: Sampler, law: Transitions, truth: Truth, device: torch.device, generator: Generator
) -> tuple[np.ndarray, int]:
    """The states `(n + SHOWN FAN, steps, dim)` of one seed's model rolled out from all starts, then several times from the
    first ones, and the evaluations of a roll-out.
    """
    rows = torch.cat([torch.arange(len(truth.s)), shown(len(truth.s)).repeat_interleave(FAN)])
    low, high = (torch.tensor(ends) for ends in zip(*law.system.spans[: law.dim], strict=True))
    width, spent = high - low, list[int]()

    def step(s: Tensor, a: Tensor) -> Tensor:
        told, x0 = given_of(law.condition(s, a)).to(device), torch.randn(s.shape, generator=generator).to(device)
        x, nfe = counted(model, sampler, x0[None], [generator], told)
        spent.append(nfe)
        after = law.after(s, x[0].cpu())
        there = ((after > low - width) & (after < high + width)).all(1, keepdim=True)
        return torch.where(there, after, s)  # so far from all that was learned a roll-out stops

    states = torch.stack(roll(step, truth.s[rows], truth.actions[:, rows]), 1).numpy()
    return states, sum(spent)


def shown(starts: int) -> Tensor:
    """The first starts, as many as are shown."""
    return torch.arange(min(SHOWN, starts))


def tasks(draw: Draw, suffix: str, law: Transitions, states: np.ndarray, truth: Truth) -> Iterator[Task]:
    """How far roll-outs `(n, steps, dim)` stay with the system's."""
    late = np.linspace(states.shape[1] // 2, states.shape[1] - 1, LATE).round().astype(int)
    mine, real = ((of[:, late] / truth.deviation).reshape(-1, law.dim) for of in (states, truth.first))
    of = watched(law, states)
    yield Task(draw, f"rollout_share{suffix}", partial(share, truth.bands, of))
    yield Task(draw, f"rollout_drift{suffix}", partial(drift, of[..., -1], truth.energies))
    yield Task(draw, f"rollout_w2{suffix}", partial(metrics.w2, mine, real))


def share(bands: Sequence[Band], tracks: np.ndarray) -> float:
    """The share of tracks `(n, steps, numbers)` that stay within the band of their start."""
    return float(np.mean([of.holds(track[None])[0] for of, track in zip(bands, tracks, strict=True)]))


def tracks_table(found: Sequence[tuple[Draw, np.ndarray]], law: Transitions, starts: int) -> dict[str, Any]:
    """Rows `(seed, solver, nfe, role, start, track, step, s, energy)`, draw after draw, start after start."""
    of_shown = shown(starts).numpy()
    start = np.concatenate([np.arange(starts), np.repeat(of_shown, FAN)]).astype(np.int32)
    track = np.concatenate([np.zeros(starts), np.tile(np.arange(1, FAN + 1), len(of_shown))]).astype(np.int32)
    steps, draws = found[0][1].shape[1], len(found)
    count = len(start) * steps
    s = np.concatenate([states.reshape(count, -1) for _, states in found])
    return {
        "seed": np.repeat(np.array([draw.seed for draw, _ in found], np.int32), count),
        "solver": np.repeat([draw.solver for draw, _ in found], count),
        "nfe": np.repeat(np.array([draw.nfe for draw, _ in found], np.int32), count),
        "role": np.repeat([draw.role for draw, _ in found], count),
        "start": np.tile(np.repeat(start, steps), draws),
        "track": np.tile(np.repeat(track, steps), draws),
        "step": np.tile(np.arange(1, steps + 1, dtype=np.int32), len(start) * draws),
        "s": s,
        "energy": energy(law, s),
    }


def bands_table(seeds: Sequence[int], found: Sequence[list[Band]]) -> dict[str, Any]:
    """Rows `(seed, start, step, low, high)` of the first starts."""
    firsts = ((seed, bands[:SHOWN]) for seed, bands in zip(seeds, found, strict=True))
    ends = [(seed, start, *of.ends) for seed, bands in firsts for start, of in enumerate(bands)]
    steps = len(ends[0][2])
    return {
        "seed": np.repeat(np.array([seed for seed, *_ in ends], np.int32), steps),
        "start": np.repeat(np.array([start for _, start, *_ in ends], np.int32), steps),
        "step": np.tile(np.arange(1, steps + 1, dtype=np.int32), len(ends)),
        "low": np.concatenate([low for *_, low, _ in ends]),
        "high": np.concatenate([high for *_, high in ends]),
    }


@torch.no_grad()
def main(args: list[str]) -> None:
    """`python -m stages.rollout NAME`, NAME a row of `rollouts`."""
    (name,) = args
    device, workers, row = prepare(), load_workers(), load(MeasuredRow, f"rollouts.{name}", GRID)
    settings, law = parse(Rolled, row.override, f"rollouts.{name}.override", GRID), law_of(row.known)
    assert law is not None
    model, seeds = read_model(places.model(places.trained(name)))
    model, samplers = model.to(device), samplers_of(name, type(model))
    say = progress(f"rollout {name}", len(seeds))
    found, bands, numbers = list[tuple[Draw, np.ndarray]](), list[list[Band]](), list[Task]()
    for k, seed in enumerate(seeds):
        truth = simulate(law, settings, stream(f"rollout/{row.dataset}", seed))
        bands.append(truth.bands)
        found.append((Draw(seed), np.concatenate([truth.other, truth.fans])))
        numbers += tasks(Draw(seed), "_floor", law, truth.other, truth)
        for sampler, role in samplers:
            generator = stream(f"rollout/{name}/{sampler.label}/{sampler.steps}", seed)
            states, nfe = follow(model.seed(k), sampler, law, truth, device, generator)
            draw = Draw(seed, sampler.label, nfe, role)
            found.append((draw, states))
            numbers += tasks(draw, "", law, states[: settings.starts], truth)
        say(k + 1, f"seed {seed}")
    write_table(rollouts.tracks(name), tracks_table(found, law, settings.starts))
    write_table(rollouts.bands(name), bands_table(seeds, bands))
    write_measures(rollouts.measured(name), numbers, workers)


if __name__ == "__main__":
    run(main)
