"""Follow a Wasserstein gradient flow by minimising movements: the folder `data/evaluate/jko/NAME`.

`steps.parquet` has a row for every seed and step: `(seed, step, time, energy, error, length, exact, w2, floor)`, and the
share of the mass nearest to each mode of the target, `mode_0` and so on, where it is a mixture. `error` is the standard
error of an energy that is a mean over points, `exact` the energy of the exact steps where these are known, `w2` how far
SHOWN points are from the target's, `floor` how far as many others are. `frames.parquet` holds points of the first seed's
laws, rows `(step, x)`, `measures.parquet` the numbers at the end, rows as those of `stages.evaluate`. `states.safetensors`
are the last states: a row with more steps, and nothing else changed, goes on from there, to the same bytes. Schemes without
noise are run once, for the first seed.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator

from rectiflow.gradient_flows import SCHEMES
from rectiflow.gradient_flows.flow import trained_score
from rectiflow.gradient_flows.line import Line
from rectiflow.gradient_flows.recovery import Recovery
from rectiflow.gradient_flows.scheme import Descent, Scheme, State
from rectiflow.gradient_flows.velocity import trained_velocity
from rectiflow.metrics import w2
from rectiflow.models.model import Field
from stages.generate import build_dataset
from stages.shared import movements, places
from stages.shared.compute import prepare, stream
from stages.shared.descents import Teacher, build_descent, fitting, reference
from stages.shared.files import rounded
from stages.shared.io import read_table, read_weights, write_table, write_weights
from stages.shared.models import read_model
from stages.shared.movements import GradientFlow
from stages.shared.params import build, load, named, read, section
from stages.shared.points import read_split
from stages.shared.progress import progress
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures

PARTS = ("state", "exact", "sums")  # of a Trace, that are kept
SHOWN = 600  # points of a picture
FAR = 2000  # points compared with the target: of a law far from it more take minutes, and tell no more


# ---- Following it.


class Trace(NamedTuple):
    """One seed's run: the state after the last step, of the exact steps beside it, what was measured at every step, the
    points of every step that are shown, and the sums that the potential is recovered from.
    """

    state: State
    exact: State
    rows: list[dict[str, float]]
    frames: list[np.ndarray]
    sums: State


@dataclass(frozen=True)
class Run:
    """All that a run needs, but for the seed."""

    name: str
    row: GradientFlow
    scheme: Scheme
    descent: Descent
    exact: Line | None
    recovery: Recovery | None
    test: np.ndarray  # `(n, dim)` of the target's side, of one seed
    other: np.ndarray  # as many, of which the floor is made

    def begin(self, seed: int) -> Trace:
        """Before the first step."""
        state = self.scheme.begin(self.descent, self.stream("begin", seed, 0))
        exact = self.exact.begin(self.descent, Generator()) if self.exact else {}
        found = Trace(state, exact, [], [], {})
        return self._looked_at(found, seed, 0, math.nan)

    def step(self, before: Trace, seed: int, k: int) -> Trace:
        """The k-th step. The stream of each is its own, so that more steps change nothing of those before."""
        state = self.scheme.step(self.descent, before.state, self.stream("step", seed, k))
        exact = self.exact.step(self.descent, before.exact, Generator()) if self.exact else {}
        length = self.scheme.length(self.descent, before.state, state)
        sums = self._summed(before, state, seed, k)
        return self._looked_at(before._replace(state=state, exact=exact, sums=sums), seed, k, length)

    def stream(self, purpose: str, seed: int, k: int) -> Generator:
        """Of one purpose of one step."""
        return stream(f"jko/{self.name}/{purpose}/{k}", seed)

    def _looked_at(self, found: Trace, seed: int, k: int, length: float) -> Trace:
        energy = self.scheme.energy(self.descent, found.state)
        if not math.isfinite(energy.energy):
            raise ArithmeticError(f"jko {self.name}: seed {seed}: the energy is {energy.energy:g} after {k} steps")
        exact = self.exact.energy(self.descent, found.exact).energy if self.exact else math.nan
        row = {
            "seed": seed, "step": k, "time": k * self.row.tau, "energy": energy.energy, "error": energy.error,
            "length": length, "exact": exact, **self.modes(found.state),
        }  # fmt: skip
        shown = self.scheme.sample(found.state, self.scheme.available(SHOWN), self.stream("shown", seed, 0)).numpy()
        n = self.compared
        row |= {"w2": w2(shown[:n], self.test[:n]), "floor": self.floor}
        # As they are written: what is made of them is the same for a run that went on and reads them.
        row = {column: rounded(value) if isinstance(value, float) else value for column, value in row.items()}
        return found._replace(rows=[*found.rows, row], frames=[*found.frames, shown.astype(np.float32)])

    @property
    def compared(self) -> int:
        """How many of the points that are shown are compared with the target at every step."""
        return min(self.scheme.available(SHOWN), len(self.test), len(self.other))

    @cached_property
    def floor(self) -> float:
        """W2 between as many points of the target and as many others."""
        return w2(self.other[: self.compared], self.test[: self.compared])

    def modes(self, state: State) -> dict[str, float]:
        """The share of the mass that is nearest to each mode of the target."""
        target = self.descent.target
        if target is None or len(target.weights) < 2:
            return {}
        x, mass = self.scheme.weighted(state)
        nearest = torch.cdist(x, target.means).argmin(1)
        return {f"mode_{j}": float(mass[nearest == j].sum()) for j in range(len(target.means))}

    def _summed(self, before: Trace, state: State, seed: int, k: int) -> State:
        """The normal equations of the potential, with one more step in them."""
        if self.recovery is None:
            return {}
        n = self.scheme.available(self.row.test)
        x, y = (
            self.scheme.sample(of, n, self.stream("recover", seed, at)) for of, at in ((before.state, k - 1), (state, k))
        )
        matrix, right = self.recovery.equations(self.descent.energy, x, y, self.row.tau)
        if before.sums:
            matrix, right = before.sums["matrix"] + matrix, before.sums["right"] + right
        return {"matrix": matrix, "right": right}


# ---- What is kept, and gone on from.


def origin(name: str, row: GradientFlow, seeds: list[int]) -> str:
    """A digest of all that a run of whatever length depends on."""
    content = read()
    code = [places.DATA / "code" / part for part in ("jko", f"scheme.{row.scheme['name']}")]
    parts = [
        json.dumps(
            [row.model_dump() | {"steps": None}, seeds, section(content, f"datasets.{row.dataset}"), name], default=str
        ),
        *(path.read_text() for path in code if path.exists()),
        sha256(places.model(places.trained(row.teacher)).read_bytes()).hexdigest() if row.teacher else "",
    ]
    return sha256("\n".join(parts).encode()).hexdigest()


def packed(of_seeds: Mapping[int, Trace]) -> dict[str, np.ndarray]:
    """The last states as arrays: `SEED/PART/NAME`."""
    return {
        f"{seed}/{part}/{name}": np.asarray(tensor)
        for seed, found in of_seeds.items()
        for part in PARTS
        for name, tensor in getattr(found, part).items()
    }


def unpacked(arrays: Mapping[str, np.ndarray], seed: int, part: str) -> State:
    """One part of a seed's last state."""
    start = f"{seed}/{part}/"
    return {name.removeprefix(start): torch.from_numpy(of.copy()) for name, of in arrays.items() if name.startswith(start)}


def kept(name: str, made_of: str, steps: int, seeds: list[int]) -> dict[int, Trace]:
    """What an earlier run of the same row left, if it went no further than this one is to go."""
    if not movements.states(name).exists():
        return {}
    try:
        arrays, spec = read_weights(movements.states(name))
        if spec["origin"] != made_of or spec["steps"] > steps:
            return {}
        rows, frames = read_table(movements.steps(name)), read_table(movements.frames(name))
    except (OSError, KeyError, ValueError):  # a run that was killed
        return {}
    found = {}
    for seed in seeds:
        mine = rows["seed"] == seed
        table = [{column: values[mine][k] for column, values in rows.items()} for k in range(mine.sum())]
        if len(table) != spec["steps"] + 1:
            return {}
        shown = list(frames["x"].reshape(spec["steps"] + 1, -1, frames["x"].shape[1])) if seed == seeds[0] else []
        state, exact, sums = (unpacked(arrays, seed, part) for part in PARTS)
        found[seed] = Trace(state, exact, [{n: v.item() for n, v in row.items()} for row in table], shown, sums)
    return found


# ---- What is measured at the end.


def measures(runs: Mapping[int, Run], of_seeds: Mapping[int, Trace], seeds: list[int]) -> Iterator[Task]:
    """The energy, the mass by modes, the length of the way, and how far the end is from the start, the target and the exact
    law. Of a scheme without noise the one run is compared with every seed's points.
    """
    first = next(iter(of_seeds))
    test, other = compared(runs[first].row)
    for k, seed in enumerate(seeds):
        run, found = runs.get(seed, runs[first]), of_seeds.get(seed, of_seeds[first])
        draw, last = Draw(seed, run.scheme.label, run.row.steps), found.rows[-1]
        ours = run.scheme.sample(found.state, run.scheme.available(run.row.test), run.stream("compared", seed, 0)).numpy()
        n = min(len(ours), test.shape[1], other.shape[1], FAR)
        yield Task(draw, "jko_w2", partial(w2, ours[:n], test[k][:n]))
        yield Task(draw, "jko_w2_floor", partial(w2, other[k][:n], test[k][:n]))
        if run.exact is not None:
            sides = [
                run.exact.sample(found.exact, len(ours), run.stream(f"exact {side}", seed, 0)).numpy() for side in range(2)
            ]
            yield Task(draw, "jko_w2_exact", partial(w2, ours, sides[0]))
            yield Task(draw, "jko_w2_exact_floor", partial(w2, sides[1], sides[0]))
        if seed in of_seeds:
            n = min(len(ours), FAR)
            begun = run.scheme.begin(run.descent, run.stream("begin", seed, 0))
            start = run.scheme.sample(begun, n, run.stream("start", seed, 0)).numpy()
            yield Task(draw, "jko_distance", partial(w2, start, ours[:n]))
            yield from numbers(run, draw, found, last)


def compared(row: GradientFlow) -> tuple[np.ndarray, np.ndarray]:
    """Points of the target for every seed, and as many others, `(seeds, n, dim)`."""
    other = "floor" if row.target == "target" else "validation"
    return read_split(row.dataset, row.target, "test").x, read_split(row.dataset, row.target, other).x


def numbers(run: Run, draw: Draw, found: Trace, last: Mapping[str, float]) -> Iterator[Task]:
    """What needs no sample."""
    lengths = [row["length"] for row in found.rows[1:]]
    values = {"jko_energy": last["energy"], "jko_energy_exact": last["exact"], "jko_length": sum(lengths)}
    if (target := run.descent.target) is not None and len(target.weights) > 1:
        values["jko_modes"] = sum(abs(last[f"mode_{j}"] - float(of)) for j, of in enumerate(target.weights)) / 2
    if run.recovery is not None:
        x = run.scheme.sample(found.state, run.scheme.available(run.row.test), Generator())
        guess = run.recovery.features(x) @ run.recovery.solve(found.sums["matrix"], found.sums["right"])
        values["jko_potential"] = float(torch.corrcoef(torch.stack([guess, run.descent.energy.outer(x)]))[0, 1])
    for name, value in values.items():
        if math.isfinite(value):
            yield Task(draw, name, partial(float, value))


def taught_by(field: Field) -> Teacher:
    """What one seed's field knows."""
    return Teacher(trained_score(field), trained_velocity(field))


def main(args: list[str]) -> None:
    """`python -m stages.jko NAME`, NAME a row of `gradient_flows`."""
    (name,) = args
    prepare()
    key, row = f"gradient_flows.{name}", load(GradientFlow, f"gradient_flows.{name}")
    dataset = build_dataset("datasets", section(read(), f"datasets.{row.dataset}"), f"datasets.{row.dataset}")[1]
    scheme = named(SCHEMES, row.scheme, f"{key}.scheme")
    teacher, seeds = None, read_split(row.dataset, "target", "test").seeds
    if row.teacher:
        model, _ = read_model(places.model(places.trained(row.teacher)))
        assert isinstance(model, Field)
        teacher = model.plain()  # operations that have forward mode
    recovery = build(Recovery, row.recover, f"{key}.recover") if row.recover is not None else None
    runs, (test, other) = {}, compared(row)
    for k, seed in enumerate(seeds if scheme.random else seeds[:1]):
        descent = build_descent(row, dataset, taught_by(teacher.seed(k)) if teacher else None, key)
        exact = reference(descent) if scheme.downhill else None
        runs[seed] = Run(name, row, scheme, descent, exact, recovery, test[k], other[k])
    fitting(scheme, runs[seeds[0]].descent, key)
    made_of = origin(name, row, seeds)
    found = kept(name, made_of, row.steps, list(runs))
    done = len(next(iter(found.values())).rows) - 1 if found else 0
    say = progress(f"jko {name}", (row.steps - done) * len(runs), max(1, len(runs)))
    for k, (seed, one) in enumerate(runs.items()):
        of_seed = found.get(seed) or one.begin(seed)
        for at in range(done + 1, row.steps + 1):
            of_seed = one.step(of_seed, seed, at)
            say(k * (row.steps - done) + at - done, f"seed {seed}, step {at}, energy {of_seed.rows[-1]['energy']:.4f}")
        found[seed] = of_seed
    write(name, made_of, row, found)
    write_measures(movements.measured(name), measures(runs, found, seeds), load_workers())


def write(name: str, made_of: str, row: GradientFlow, found: Mapping[int, Trace]) -> None:
    """What was followed, for the report and to go on from."""
    rows = [of for seed in found for of in found[seed].rows]
    columns = {column: column_of([of[column] for of in rows]) for column in rows[0]}
    write_table(movements.steps(name), columns)
    frames = next(iter(found.values())).frames
    step = np.repeat(np.arange(len(frames), dtype=np.int32), len(frames[0]))
    write_table(movements.frames(name), {"step": step, "x": np.concatenate(frames)})
    write_weights(movements.states(name), packed(found), {"origin": made_of, "steps": row.steps})


def column_of(values: list[float]) -> np.ndarray:
    """Whole numbers as such."""
    return np.array(values, np.int32 if all(isinstance(value, int) for value in values) else None)


if __name__ == "__main__":
    run(main)
