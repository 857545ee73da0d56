"""Which path for these pairs: train every candidate on a small budget, rank them by held-out W2, and take the first.

Writes `data/train/NAME/choice.json` (the path, and what the seeds can tell), `evidence.parquet` (rows `(path, seed, nfe, w2,
floor)`) and the pairs themselves beside it, on which the flow that takes the path is then trained in full.
"""

from typing import Any

import numpy as np
from torch import Generator

from rectiflow.interpolants import INTERPOLANTS
from rectiflow.metrics import w2
from rectiflow.objectives.matching import Matching
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.statistics import estimate, holm, p_value, paired
from rectiflow.training import Training, fit
from stages.shared import places
from stages.shared.compute import prepare
from stages.shared.files import copy, write_json
from stages.shared.io import write_table
from stages.shared.objectives import build_network
from stages.shared.pairs import read_pairs, read_points
from stages.shared.params import build, load, merged, named, read, section
from stages.shared.progress import progress
from stages.shared.rows import Choice
from stages.shared.start import run


def label(path: dict[str, Any]) -> str:
    """`name`, with its options where there are any."""
    rest = ", ".join(f"{key} {value}" for key, value in path.items() if key != "name")
    return f"{path['name']} ({rest})" if rest else path["name"]


def ranked(evidence: dict[str, list[float]]) -> tuple[list[str], list[str]]:
    """The candidates by mean W2, and those that seeds separate from the first: t tests paired by seed, Holm-corrected."""
    order = sorted(evidence, key=lambda name: estimate(evidence[name]).mean)
    gaps = [paired(evidence[name], evidence[order[0]]) for name in order[1:]]
    kept = holm([p_value(gap) for gap in gaps])
    return order, [name for name, holds in zip(order[1:], kept, strict=True) if holds]


def main(args: list[str]) -> None:
    """`python -m stages.choose NAME`, NAME a row of `choices`."""
    (name,) = args
    key, device, content = f"choices.{name}", prepare(), read()
    row = load(Choice, key)
    seeds, pairs = read_pairs(row.pairs, row.dataset, "train")
    _, held_out = read_pairs(row.pairs, row.dataset, "validation")
    x0, x1 = (read_points(row.dataset, side, "validation")[1] for side in ("source", "target"))
    floor = read_points(row.dataset, "target", "floor")[1]
    n = min(part.shape[1] for part in (x0, x1, floor))
    options = build(Training, merged(section(content, "training"), row.training), f"{key}.training")
    network = build_network(merged(section(content, "network"), row.network), f"{key}.network")
    sampler = named(SAMPLERS, row.sampler, f"{key}.sampler")

    say, rows = progress(f"choose {name}", len(row.candidates), len(row.candidates)), []
    for k, spec in enumerate(row.candidates):
        objective = Matching(network, named(INTERPOLANTS, spec, f"{key}.candidates.{k}"))
        generators = [Generator().manual_seed(seed) for seed in seeds]
        velocity, _ = fit(objective, pairs.to(device), held_out.to(device), generators, options)
        ends = sample(velocity, sampler, x0[:, :n].to(device), generators)
        for seed, end, target in zip(seeds, ends, x1[:, :n].numpy(), strict=True):
            rows.append((label(spec), seed, end.nfe, w2(end.end[0].cpu().numpy(), target)))
        say(k + 1, f"{label(spec)}: held-out W2 {np.mean([row[-1] for row in rows[-len(seeds) :]]):.4f}")
    floors = [w2(a, b) for a, b in zip(floor[:, :n].numpy(), x1[:, :n].numpy(), strict=True)]
    names, of_seed, nfe, distances = zip(*rows, strict=True)
    evidence = {name: [d for other, d in zip(names, distances, strict=True) if other == name] for name in names}
    order, behind = ranked(evidence)
    picked = next(spec for spec in row.candidates if label(spec) == order[0])
    columns = {"seed": np.array(of_seed, np.int32), "nfe": np.array(nfe, np.int32), "w2": np.array(distances)}
    floors_of = np.array([floors[seeds.index(seed)] for seed in of_seed])
    write_table(places.evidence(name), {"path": names, **columns, "floor": floors_of})
    found = {"path": picked, "ranking": order, "separated": behind, "steps": options.steps}
    write_json(places.choice(name), found)
    copy(places.pairs(row.pairs), places.pairs(f"train/{name}"))


if __name__ == "__main__":
    run(main)
