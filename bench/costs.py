"""`python -m bench.costs`: what grows with seeds, points, dimensions and stages, and how fast.

Every size is measured in a process of its own, on one thread: the median time of three calls, or a single one where that is
long, and by how much they raised the process's largest memory. The exponent is the slope of log time over log size, over
the larger half of the sizes. Writes reports/costs.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.sides import ROOT, Process
from bench.worker import SHORT

WRITTEN = ROOT / "reports/costs.json"
SEEDS, DIMS = (1, 2, 4, 8, 16, 32, 64), (2, 8, 32, 128, 784)
ROUNDS = (2, 12, 50, 125)
POINTS = (1_000, 10_000, 100_000, 1_000_000)
HEAD = ("work", "grows with", "sizes", "seconds", "memory, MiB", "exponent", "bound by")


@dataclass(frozen=True)
class Growth:
    """A function of `bench.growing`, the option that grows, and what bounds it."""

    work: str
    call: str
    option: str
    sizes: tuple[int, ...]
    bound: str
    fixed: tuple[tuple[str, int], ...] = ()


GROWTHS = (
    Growth("100 steps of training", "training", "seeds", SEEDS, "calls for few seeds, then arithmetic"),
    Growth("100 steps of training", "training", "points", POINTS, "not the points: batches are drawn"),
    Growth("100 steps of training", "training", "dim", DIMS, "calls, then the first and last layer"),
    Growth("sampling by Euler-100", "sampling", "points", POINTS, "arithmetic"),
    Growth("sampling 10k points by Euler-100", "sampling", "dim", DIMS, "arithmetic, then memory"),
    Growth("exact pairs, batches of 250", "pairs", "points", POINTS[:3], "batches solved, all alike"),
    Growth(
        "exact pairs, one batch of all", "pairs", "points", (250, 500, 1000, 2000, 4000, 8000),
        "the assignment; above 900 from scale to scale", (("batch", 10**9),),
    ),
    Growth(
        "exact pairs, one batch of all, 784 dimensions", "pairs", "points", (250, 500, 1000, 2000, 4000),
        "the assignment and its matrix", (("dim", 784), ("batch", 10**9)),
    ),
    Growth(
        "exact pairs, one batch of 1000", "pairs", "dim", DIMS,
        "augmenting paths: the plane is hardest", (("points", 1000), ("batch", 10**9)),
    ),
    Growth("10 debiased steps of a gradient flow in the plane", "grid", "cells", (32, 64, 128, 256), "products along axes"),
    Growth("10 debiased steps of a gradient flow, 32 cells an axis", "grid", "dim", (1, 2, 3), "products along axes"),
    Growth(
        "2 steps of a gradient flow by particles", "particles", "points", (1000, 10_000, 100_000),
        "the density on its grid, then the points",
    ),
    Growth("exact W2", "distance", "points", (1000, 2000, 5000, 10_000), "the simplex on few arcs"),
)  # fmt: skip


def measure(growth: Growth, size: int) -> tuple[float, float]:
    """Median seconds and MiB above what an idle process has."""
    with Process(Path(sys.executable), "bench.growing") as process:
        work = (growth.call, {**dict(growth.fixed), growth.option: size})
        answers: list[dict[str, Any]] = []
        while len(answers) < 3 and (not answers or answers[0]["seconds"] < SHORT):
            process.ask(work, 1)
            answers.append(process.answer(work))
    return statistics.median(answer["seconds"] for answer in answers), max(answer["memory"] for answer in answers)


# ---- Stages: a project of many rounds of a small flow.


def parameters(rounds: int) -> dict[str, Any]:
    """params.yaml of one data set, one method and so many rounds, each of four stages."""
    return {
        "seeds": [0], "compute": {"device": "cpu", "threads": 1}, "workers": 1,
        "datasets": {"bimodal": {"name": "bimodal", "train": 300, "validation": 50, "test": 60, "pool": 600}}, "tables": {},
        "couplings": {"independent": {"name": "independent", "pairs": 600}},
        "network": {"name": "mlp", "width": 16, "depth": 2},
        "training": {"steps": 20, "batch": 32, "log_every": 20, "warmup": 5},
        "methods": {"icfm": {"coupling": "independent", "interpolant": {"name": "linear"}}},
        "reflow": {"pairs": 200, "validation": 50, "sampler": {"name": "euler", "steps": 5}},
        "sample": {
            "samplers": [{"name": "euler", "steps": steps} for steps in (1, 4)],
            "trajectory_steps": 4, "trajectory_points": 20,
        },
        "density": {"solver": {"name": "rk4"}, "divergence": {"name": "exact"}, "train": 10, "map": 2},
        "baselines": {},
        "samplers": {}, "grid": {"chain": {"datasets": ["bimodal"], "methods": ["icfm"], "rounds": rounds}},
        "choices": {}, "relations": {}, "studies": {},
    }  # fmt: skip


def project(folder: Path) -> Path:
    """The last commit in a clone of its own, with a cache of its own."""
    clone = folder / "project"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    (clone / "dvc.lock").unlink()
    shutil.rmtree(clone / "experiments")
    return clone


def command(where: Path, *words: str) -> tuple[float, str]:
    """Seconds that it takes, and what it prints."""
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(where / "src"), str(where)]), "DVC_NO_ANALYTICS": "1",
    }  # fmt: skip
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=where, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(words)}: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - begin, done.stdout


RUNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("all stages by make repro", ("-m", "flows.repro", "--force")),
    ("make repro, nothing to do", ("-m", "flows.repro")),
    ("dvc repro, nothing to do", ("-m", "dvc", "repro")),
)


def stages() -> Iterator[dict[str, Any]]:
    """Projects of more and more rounds: everything, then nothing to do."""
    sizes, seconds = [], []
    for rounds in ROUNDS:
        with tempfile.TemporaryDirectory() as folder:
            clone = project(Path(folder))
            (clone / "params.yaml").write_text(json.dumps(parameters(rounds)))
            command(clone, "-m", "stages.grid")
            seconds.append([command(clone, *words)[0] for _, words in RUNS])
            sizes.append((clone / "dvc.lock").read_text().count("\n    cmd:"))
    for (work, _), column in zip(RUNS, zip(*seconds, strict=True), strict=True):
        yield row(work, "stages", sizes, column, None, "imports, then DVC's work for every stage")


# ---- The default grid.


def start_up() -> Iterator[dict[str, Any]]:
    """A stage's imports, in a process that begins, as `dvc repro` runs it."""
    names = ("generate", "floor", "couple", "train", "reflow", "sample", "evaluate", "density", "report")
    times = [[command(ROOT, "-c", f"import stages.{name}")[0] for name in names] for _ in range(4)][1:]
    for name, column in zip(names, zip(*times, strict=True), strict=True):
        yield {"work": f"start of stages.{name}", "seconds": statistics.median(column), "target": 1.5}


def outside() -> Iterator[dict[str, Any]]:
    """What the default grid spends outside its stages' own work, one stage after the other."""
    with tempfile.TemporaryDirectory() as folder:
        clone = project(Path(folder))
        whole = command(clone, "-m", "flows.repro", "--workers", "1")[0]
        inside = float(command(clone, "-m", "bench.inside")[1].splitlines()[-1])
    yield {
        "work": "default grid, make repro, a stage at a time", "seconds": whole, "inside": inside,
        "outside": 1 - inside / whole, "target": 0.25,
    }  # fmt: skip


def row(
    work: str, option: str, sizes: Sequence[int], seconds: Sequence[float], memory: Sequence[float] | None, bound: str
) -> dict[str, Any]:
    return {
        "work": work, "grows_with": option, "sizes": list(sizes), "seconds": list(seconds),
        "memory": None if memory is None else list(memory), "exponent": exponent(sizes, seconds), "bound": bound,
    }  # fmt: skip


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of the least squares line through the larger half of the points, in logarithms."""
    kept = slice(len(sizes) // 2 - (len(sizes) < 4), None)
    return float(np.polyfit(np.log(sizes[kept]), np.log(seconds[kept]), 1)[0])


def growths() -> Iterator[dict[str, Any]]:
    for growth in GROWTHS:
        seconds, memory = zip(*(measure(growth, size) for size in growth.sizes), strict=True)
        yield row(growth.work, growth.option, growth.sizes, seconds, memory, growth.bound)


PARTS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "growths": growths, "stages": stages, "start-up": start_up, "outside": outside,
}  # fmt: skip


def line(found: dict[str, Any]) -> str:
    if "sizes" not in found:
        return f"{found['work']}: " + ", ".join(
            f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float)
        )

    def listed(values: Sequence[float]) -> str:
        return ", ".join(f"{value:.3g}" for value in values)

    sizes = ", ".join(f"{size:,}".replace(",", " ") for size in found["sizes"])
    memory = listed(found["memory"]) if found["memory"] else ""
    cells = (
        found["work"],
        found["grows_with"],
        sizes,
        listed(found["seconds"]),
        memory,
        f"{found['exponent']:.2f}",
        found["bound"],
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="measure only these anew")
    parts = parser.parse_args().parts
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
    known = json.loads(WRITTEN.read_text()) if WRITTEN.exists() else {}
    for part in parts or PARTS:
        known[part] = []
        for found in PARTS[part]():
            known[part].append(found)
            print(line(found), flush=True)
        WRITTEN.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
