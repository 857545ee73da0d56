"""`python -m bench`: every row of ROWS on both sides, in turn, and their ratio.

Each side is one process for the whole run, in its own environment. A row is first done once by either side on one and on two
threads; then `runs` times in turn on whichever was faster, and the medians are compared. Writes reports/benchmarks.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
NEIGHBOURS = ROOT / ".venv-bench/bin/python"
WRITTEN = ROOT / "reports/benchmarks.json"
EULER = {"name": "euler", "steps": 100}
DOPRI5 = {"name": "dopri5", "rtol": 1e-4, "atol": 1e-4}
Work = tuple[str, dict[str, Any]]  # a function of a side, and its options


@dataclass(frozen=True)
class Row:
    """A piece of work that both sides do, in units of their own amounts a second."""

    work: str
    unit: str
    target: float
    ours: Work
    theirs: Work
    runs: int = 5


def trainings() -> Iterator[Row]:
    loop = {"steps": 300, "batch": 256}
    for data, against, target in (("library", "torchcfm's loop", 12), ("stored", "torchcfm's loop on stored points", 4)):
        ours, theirs = {"seeds": 16, "steps": 1000, "batch": 256}, {**loop, "data": data}
        work = f"I-CFM training, 16 seeds, 3 x 64, batch 256, against {against}"
        yield Row(
            work, "model-steps/s", target,
            ("training", {"method": "icfm", **ours, "data": data}), ("training", {"method": "icfm", **theirs}),
        )  # fmt: skip
    yield Row(
        "OT-CFM training, 4 seeds, three rounds of 1500 steps, couplings and reflow included, against torchcfm's loop",
        "model-steps/s", 30,
        ("training", {"method": "otcfm", "seeds": 4, "steps": 1500, "batch": 256, "rounds": 3}),
        ("training", {"method": "otcfm", **loop, "data": "library"}), 3,
    )  # fmt: skip
    yield Row(
        "the transport table's training (batch 512, 5 seeds, I-CFM), against torchcfm's loop", "model-steps/s", 10,
        ("training", {"method": "icfm", "seeds": 5, "steps": 1000, "batch": 512}),
        ("training", {"method": "icfm", "steps": 300, "batch": 512, "data": "library"}),
    )  # fmt: skip


def transports() -> Iterator[Row]:
    for dim, target in ((2, 3), (784, 2.5)):
        for n, times in ((256, 16), (1024, 2), (2048, 2)):
            options = {"n": n, "dim": dim, "times": times}
            work = f"exact pairs, {n} points in {dim} dimensions, against OTPlanSampler"
            yield Row(work, "pairs/s", target, ("plans", options), ("plans", options))


def distances(folder: Path) -> Iterator[Row]:
    files = {name: {"problems": str(folder / f"{name}.npz")} for name in ("grid", "large")}
    yield Row(
        "W2 of every draw of the default grid, one seed's, against ot.emd2 one by one", "problems/s", 1.8,
        ("distances", files["grid"]), ("distances", files["grid"]), 3,
    )  # fmt: skip
    yield Row(
        "W2 of 10 000 points in the plane, against ot.emd2", "problems/s", 1,
        ("distances", files["large"]), ("distances", files["large"]), 1,
    )  # fmt: skip


def samplings(folder: Path) -> Iterator[Row]:
    weights = str(folder / "weights.npz")
    for solver, label in ((EULER, "Euler-100"), (DOPRI5, "dopri5 at 1e-4")):
        for library in ("torchdyn", "flow_matching", "torchdiffeq"):
            options = {"points": 10_000, "weights": weights, "solver": solver}
            yield Row(
                f"sampling 10 000 points by {label}, end points, one seed after the other, against {library}",
                "points/s", 1.2,
                ("sampling", {"models": 4, **options}), ("sampling", {"models": 4, **options, "library": library}), 3,
            )  # fmt: skip


class Side:
    """One side's process."""

    def __init__(self, python: Path, module: str) -> None:
        command = [str(python), "-m", "bench.worker", module]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.module = module

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def rate(self, work: Work, threads: int) -> float:
        """Do it once; how much of it in a second."""
        call, options = work
        self.process.stdin.write(json.dumps({"call": call, "options": options, "threads": threads}) + "\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"error: {self.module} ended at {call} {options}; what it printed is above")
        answer = json.loads(line)
        return answer["amount"] / answer["seconds"]

    def threads(self, work: Work, runs: int) -> int:
        """Whether one or two of torch's threads are faster for it. Where a run is long and threads play no part: one."""
        return 1 if runs == 1 else max((1, 2), key=lambda threads: self.rate(work, threads))


def measure(row: Row, ours: Side, theirs: Side) -> dict[str, Any]:
    """Both sides in turn; the medians of their rates, and the ratios' spread."""
    sides = ((ours, row.ours), (theirs, row.theirs))
    threads = [side.threads(work, row.runs) for side, work in sides]
    rates = [[side.rate(work, n) for (side, work), n in zip(sides, threads, strict=True)] for _ in range(row.runs)]
    mine, other = (statistics.median(column) for column in zip(*rates, strict=True))
    ratios = sorted(a / b for a, b in rates)
    return {
        "work": row.work, "ours": mine, "theirs": other, "unit": row.unit, "ratio": mine / other, "target": row.target,
        "ratios": [ratios[0], ratios[-1]], "runs": row.runs, "threads": threads,
    }  # fmt: skip


def itself(ours: Side) -> Iterator[dict[str, Any]]:
    """What is measured against no neighbour: the cost of sixteen seeds, and the arithmetic of training."""
    one, many, product = [], [], []
    for _ in range(5):
        one.append(1 / ours.rate(("fitting", {"seeds": 1, "steps": 500, "batch": 256}), 2))
        many.append(16 / ours.rate(("fitting", {"seeds": 16, "steps": 100, "batch": 256}), 2))
        product.append(ours.rate(("products", {"n": 1024, "times": 20}), 2))
    one, many, product = (statistics.median(values) for values in (one, many, product))
    yield {
        "work": "a training step of 16 seeds over one of one seed (at most)",
        "ours": many * 1e3, "theirs": one * 1e3, "unit": "ms", "ratio": many / one, "target": 8,
    }  # fmt: skip
    flops = 16 * 3 * 2 * 256 * (3 * 64 + 2 * 64 * 64 + 64 * 2) / many
    yield {
        "work": "arithmetic of training, 16 seeds, against products of 1024 x 1024 matrices",
        "ours": flops / 1e9, "theirs": product / 1e9, "unit": "GFLOP/s", "ratio": flops / product, "target": None,
    }  # fmt: skip


def line(found: dict[str, Any]) -> str:
    target = "" if found["target"] is None else f"{found['target']:g}"
    spread = "{:.2f} to {:.2f}".format(*found["ratios"]) if "ratios" in found else ""
    numbers = f"{found['ours']:.4g} | {found['theirs']:.4g} | {found['unit']} | {found['ratio']:.2f}"
    return f"| {found['work']} | {numbers} | {spread} | {target} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--neighbours", type=Path, default=NEIGHBOURS, help="the Python of the neighbours' environment")
    parser.add_argument("--only", default="", help="rows whose description contains this, and no file is written")
    arguments = parser.parse_args()
    if not arguments.neighbours.exists():
        parser.error(f"--neighbours: {arguments.neighbours} is not there; `make bench` makes it")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(Side(Path(sys.executable), "bench.ours"))
        theirs = stack.enter_context(Side(arguments.neighbours, "bench.theirs"))
        for call, name, options in (
            ("write_weights", "weights", {}), ("write_grid", "grid", {}), ("write_clouds", "large", {"n": 10_000, "dim": 2}),
        ):  # fmt: skip
            ours.rate((call, {"path": str(folder / f"{name}.npz"), **options}), 2)
        print(
            "| work | ours | theirs | unit | ratio | of single runs | target |\n| --- | --- | --- | --- | --- | --- | --- |"
        )
        found = []
        rows = [*trainings(), *transports(), *distances(folder), *samplings(folder)]
        for row in rows:
            if arguments.only in row.work:
                found.append(measure(row, ours, theirs))
                print(line(found[-1]), flush=True)
        if not arguments.only:
            for row in itself(ours):
                found.append(row)
                print(line(row), flush=True)
            WRITTEN.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
