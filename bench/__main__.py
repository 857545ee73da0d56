"""`python -m bench`: every row of the table on both sides, in turn, and their ratio.

Each side has its own environment. Ours is two processes on one thread each, as two stages are on two cores. Theirs is one
process, as its users run it, on one thread or two, whichever was faster in a first try; and then two of theirs at once, all
that two cores can do for it. In turn, `runs` times; medians are compared, and both sides' results where they should be the
same. Writes reports/benchmarks.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.sides import ALONE, ROOT, THREADS, TWO, Mode, Rate, Side, Work

NEIGHBOURS = ROOT / ".venv-bench/bin/python"
WRITTEN = ROOT / "reports/benchmarks.json"
EULER = {"name": "euler", "steps": 100}
DOPRI5 = {"name": "dopri5", "rtol": 1e-4, "atol": 1e-4}
MIDPOINT = {"name": "midpoint", "steps": 20}
HEAD = ("work", "ours", "theirs", "unit", "ratio", "of single runs", "of two of theirs at once", "aim")


@dataclass(frozen=True)
class Row:
    """A piece of work that both sides do, in units of their own amounts a second; their results differ by `within`."""

    work: str
    unit: str
    target: float | None
    ours: Work
    theirs: Work
    runs: int = 5
    within: float = 1e-4
    mode: Mode = TWO


def trainings() -> Iterator[Row]:
    kinds = {"library": "torchcfm's loop", "stored": "torchcfm's loop on points drawn beforehand"}
    methods = (
        ("I-CFM training, 16 seeds, 3 x 64, batch 256", (12, 4), 256, 300,
         {"method": "icfm", "seeds": 16, "steps": 600, "batch": 256}),
        ("OT-CFM training, 3 seeds, three rounds of 1500 steps, couplings and reflow included", (30, None), 256, 200,
         {"method": "otcfm", "seeds": 3, "steps": 1500, "batch": 256, "rounds": 3}),
        ("the transport table's training: I-CFM, 5 seeds, batch 512, its options", (10, None), 512, 200,
         {"method": "icfm", "seeds": 5, "steps": 600, "batch": 512, "plain": True}),
    )  # fmt: skip
    for work, targets, batch, steps, options in methods:
        for (data, against), target in zip(kinds.items(), targets, strict=True):
            theirs = {"method": options["method"], "steps": steps, "batch": batch, "data": data}
            ours = ("training", {**options, "data": data})
            runs = 3 if "rounds" in options else 5
            yield Row(f"{work}; against {against}", "model-steps/s", target, ours, ("training", theirs), runs)


def one_steps() -> Iterator[Row]:
    """Both sides clip, follow a cosine and average weights; ours has a warm-up and measures a held-out loss besides."""
    kinds = {
        "meanflow": ("MeanFlow along its own velocity", "a loop of torch.func.jvp"),
        "consistency": ("consistency distillation, Heun's step of a teacher", "a loop"),
    }
    for objective, (work, loop) in kinds.items():
        theirs = {"objective": objective, "steps": 200, "batch": 256}
        yield Row(
            f"training {work}, 3 seeds in one product, 4 x 128, batch 256; against {loop} in eager PyTorch, seed after seed",
            "model-steps/s", 2, ("one_step", {**theirs, "seeds": 3}), ("one_step", theirs), mode=ALONE,
        )  # fmt: skip


def pictured() -> Iterator[Row]:
    """Both sides have the same U-Net."""
    training, sampling = {"steps": 40, "batch": 64}, {"points": 256, "steps": 8}
    work = "a U-Net of 0.44 M weights, pictures of 28 x 28"
    yield Row(
        f"training {work}, batch 64; against a loop like torchcfm's example on MNIST in eager PyTorch", "steps/s", 1,
        ("picture_training", training), ("picture_training", training), 3, mode=ALONE,
    )  # fmt: skip
    yield Row(
        f"sampling 256 pictures by Euler-8, {work}; against eager PyTorch", "pictures/s", 1,
        ("picture_sampling", sampling), ("picture_sampling", sampling), 3, mode=ALONE,
    )  # fmt: skip


def stepped() -> Iterator[Row]:
    """Both sides have the same networks; what is drawn of tokens has the same law."""
    rolled, hidden = {"starts": 200, "steps": 200, "euler": 50}, {"rows": 20_000, "steps": 64}
    yield Row(
        "a roll-out of 200 steps from 200 states, Euler-50 a step, 4 x 128; against eager PyTorch", "states/s", 1,
        ("rollout", rolled), ("rollout", rolled), 3, 1e-3, ALONE,
    )  # fmt: skip
    yield Row(
        "20 000 draws of two tokens of 64 values, masked flow, 64 steps, 3 x 128; against eager PyTorch", "rows/s", 5,
        ("unmasking", hidden), ("unmasking", hidden), 3, 2e-2, ALONE,
    )  # fmt: skip


def transports() -> Iterator[Row]:
    for dim, target in ((2, 3), (784, 2.5)):
        for n, times in ((256, 16), (1024, 2), (2048, 2)):
            options = {"n": n, "dim": dim, "times": times}
            work = f"exact pairs, {n} points in {dim} dimensions; against OTPlanSampler"
            # POT stops after 10^5 iterations, which leaves torchcfm's plan above the optimum for many points.
            yield Row(work, "pairs/s", target, ("plans", options), ("plans", options), within=1e-3)


def distances(folder: Path) -> Iterator[Row]:
    files = {name: {"problems": str(folder / f"{name}.npz")} for name in ("grid", "large")}
    yield Row(
        "W2 of every draw of the default grid, one seed's; against ot.emd2", "problems/s", 1.8,
        ("distances", files["grid"]), ("distances", files["grid"]), 3,
    )  # fmt: skip
    yield Row(
        "W2 of 10 000 points in the plane; against ot.emd2", "problems/s", 1,
        ("distances", files["large"]), ("distances", files["large"]), 1, mode=ALONE,
    )  # fmt: skip


def movements(folder: Path) -> Iterator[Row]:
    for cells in (32, 64):
        options = {"problem": str(folder / f"step{cells}.npz"), "cells": cells}
        yield Row(
            f"a step of a gradient flow on {cells} x {cells} cells, eps .3; against ot.sinkhorn_unbalanced", "steps/s", 5,
            ("movement", options), ("movement", options), 3, 1e-4, ALONE,
        )  # fmt: skip


def samplings(folder: Path) -> Iterator[Row]:
    options = {"models": 1, "points": 10_000, "weights": str(folder / "weights.npz")}
    for solver, label, within in ((EULER, "Euler-100", 1e-4), (DOPRI5, "dopri5 at 1e-4", 1e-3)):
        for library in ("torchdyn", "flow_matching", "torchdiffeq"):
            ours = {**options, "solver": solver}
            yield Row(
                f"sampling 10 000 points a model by {label}, end points; against {library}", "points/s", 1.2,
                ("sampling", ours), ("sampling", {**ours, "library": library}), 3, within,
            )  # fmt: skip


def densities(folder: Path) -> Iterator[Row]:
    for flow, work in (("realnvp", "RealNVP, 8 affine couplings"), ("spline", "spline flow, 4 couplings of 8 bins")):
        theirs = {"flow": flow, "steps": 300, "batch": 256, "points": str(folder / "points.npz")}
        yield Row(
            f"training a {work}, 3 seeds, 2 x 64, batch 256; against zuko", "model-steps/s", 2,
            ("likelihood_training", {**theirs, "seeds": 3}), ("likelihood_training", theirs), 3, 0.3,
        )  # fmt: skip
    options = {"points": 10_000, "weights": str(folder / "weights.npz")}
    fixed, adaptive = (MIDPOINT, "midpoint-20"), (DOPRI5, "dopri5 at 1e-4")
    for library, (solver, label) in (("flow_matching", fixed), ("torchdyn", fixed), ("zuko", adaptive)):
        ours = {**options, "solver": solver}
        yield Row(
            f"log p of 10 000 points by a field, {label}, exact divergence; against {library}", "points/s", 3,
            ("likelihoods", ours), ("likelihoods", {**ours, "library": library}), 3, 1e-3,
        )  # fmt: skip


def agreement(row: Row, ours: Rate, theirs: Rate) -> dict[str, Any]:
    """How far the results differ, relative to theirs, and both numbers of evaluations; too far is an error."""
    found: dict[str, Any] = {}
    if ours.found is not None and theirs.found is not None:
        found["difference"] = abs(ours.found / theirs.found - 1)
        if not found["difference"] <= row.within:
            raise SystemExit(f"error: {row.work}: ours is {ours.found:.8g}, theirs {theirs.found:.8g}, not the same")
    if ours.nfe is not None:
        found["nfe"] = [ours.nfe, theirs.nfe]
    return found


def fastest(side: Side, work: Work) -> tuple[Mode, Rate]:
    """One process on one thread or on two."""
    tried = {mode: side.do(work, mode) for mode in (ALONE, THREADS)}
    return max(tried.items(), key=lambda found: found[1].rate)


def measure(row: Row, ours: Side, theirs: Side) -> dict[str, Any]:
    """Both sides in turn; the medians of their rates, and the spread of the ratio."""
    usual, other = (ALONE, theirs.do(row.theirs, ALONE)) if row.mode == ALONE else fastest(theirs, row.theirs)
    agreed = agreement(row, ours.do(row.ours, row.mode), other)
    ways = [(ours, row.ours, row.mode), (theirs, row.theirs, usual)]
    if row.mode == TWO:
        theirs.do(row.theirs, TWO)
        ways.append((theirs, row.theirs, TWO))
    rates = [[side.do(work, mode).rate for side, work, mode in ways] for _ in range(row.runs)]
    medians = [statistics.median(column) for column in zip(*rates, strict=True)]
    ratios = sorted(a / b for a, b, *_ in rates)
    return {
        "work": row.work, "ours": medians[0], "theirs": medians[1], "unit": row.unit, "ratio": medians[0] / medians[1],
        "target": row.target, "ratios": [ratios[0], ratios[-1]], "ratio_to_two": medians[0] / max(medians[1:]),
        "runs": row.runs, "modes": [row.mode, usual], **agreed,
    }  # fmt: skip


def itself(ours: Side) -> Iterator[dict[str, Any]]:
    """What is measured against no neighbour: the cost of sixteen seeds, and the arithmetic of training."""
    works = {
        "one": ("fitting", {"seeds": 1, "steps": 500, "batch": 256}),
        "many": ("fitting", {"seeds": 16, "steps": 100, "batch": 256}),
        "product": ("products", {"n": 1024, "times": 20}),
    }
    best = {name: fastest(ours, works[name])[0] for name in ("one", "many")}
    rates = [{name: ours.do(works[name], mode).rate for name, mode in best.items()} for _ in range(5)]
    single = [{name: ours.do(works[name]).rate for name in ("many", "product")} for _ in range(5)]
    one, many = (statistics.median(row[name] for row in rates) for name in ("one", "many"))
    yield {
        "work": "a training step of 16 seeds over one of one seed (at most)", "ours": 16e3 / many, "theirs": 1e3 / one,
        "unit": "ms", "ratio": 16 * one / many, "target": 8, "modes": [best["many"], best["one"]],
    }  # fmt: skip
    flops = 3 * 2 * 256 * (3 * 64 + 2 * 64 * 64 + 64 * 2)  # of a step: a pass forward, two as long back
    many, product = (statistics.median(row[name] for row in single) for name in ("many", "product"))
    yield {
        "work": "arithmetic of training 16 seeds over that of 1024 x 1024 products, one thread", "ours": flops * many / 1e9,
        "theirs": product / 1e9, "unit": "GFLOP/s", "ratio": flops * many / product, "target": None,
    }  # fmt: skip


def accelerated(device: str) -> Iterator[Row]:
    """Training on a device, where the host alone has little to do."""
    for seeds, target in ((1, None), (32, 5)):
        options = {"seeds": seeds, "steps": 300, "batch": 256, "device": device}
        work = f"training {seeds} at once on {device}, 3 x 64, batch 256; against eager PyTorch, models in one product"
        yield Row(work, "model-steps/s", target, ("fitting", options), ("fitting", options), mode=ALONE)


def line(found: dict[str, Any]) -> str:
    spread = "{:.2f} to {:.2f}".format(*found["ratios"]) if "ratios" in found else ""
    to_two = f"{found['ratio_to_two']:.2f}" if "ratio_to_two" in found else ""
    target = "" if found["target"] is None else f"{found['target']:g}"
    numbers = (f"{found['ours']:.4g}", f"{found['theirs']:.4g}", found["unit"], f"{found['ratio']:.2f}")
    return "| " + " | ".join((found["work"], *numbers, spread, to_two, target)) + " |"


def write_problems(side: Side, folder: Path) -> None:
    """What both sides read: a trained field, the grid's draws, points of two moons, two large clouds."""
    for call, name, options in (
        ("write_weights", "weights", {}), ("write_grid", "grid", {}), ("write_points", "points", {}),
        ("write_clouds", "large", {"n": 10_000, "dim": 2}), *(("write_step", f"step{n}", {"cells": n}) for n in (32, 64)),
    ):  # fmt: skip
        side.do((call, {"path": str(folder / f"{name}.npz"), **options}))


def table(device: str, only: str, neighbours: Path) -> Iterator[dict[str, Any]]:
    """Every row, as it is measured."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(Side(Path(sys.executable), "bench.ours"))
        theirs = stack.enter_context(Side(neighbours, "bench.theirs"))
        if device == "cpu":
            write_problems(ours, folder)
            rows = [
                *trainings(),
                *one_steps(),
                *pictured(),
                *stepped(),
                *transports(),
                *distances(folder),
                *movements(folder),
                *samplings(folder),
                *densities(folder),
            ]
        else:
            rows = [*accelerated(device)]
        for row in rows:
            if only in row.work:
                yield measure(row, ours, theirs)
        if device == "cpu" and not only:
            yield from itself(ours)


def devices() -> list[str]:
    import torch

    return ["cpu"] + ["cuda"] * torch.cuda.is_available()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--neighbours", type=Path, default=NEIGHBOURS, help="the Python of the neighbours' environment")
    parser.add_argument("--device", default="cpu", help="cuda: the rows of a GPU; nothing is written")
    parser.add_argument("--only", default="", help="rows whose description contains this; nothing is written")
    arguments = parser.parse_args()
    if not arguments.neighbours.exists():
        parser.error(f"--neighbours: {arguments.neighbours} is not there; `make bench` makes it")
    if arguments.device not in (known := devices()):
        parser.error(f"--device: {arguments.device} is not here; choose from {', '.join(known)}")
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
    found = []
    for row in table(arguments.device, arguments.only, arguments.neighbours):
        found.append(row)
        print(line(row), flush=True)
    if arguments.device == "cpu" and not arguments.only:
        WRITTEN.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
