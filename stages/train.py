"""Train one model on stored rows: `data/train/NAME/model.safetensors` and the loss curves beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Generator

from rectiflow.pairs import Pairs, Points
from rectiflow.training import Curves, Training, fit
from stages.shared import places
from stages.shared.checkpoints import Checkpoint, key_of
from stages.shared.compute import prepare
from stages.shared.files import copy
from stages.shared.io import seed_major, write_table
from stages.shared.memory import beginning, needs, require
from stages.shared.models import read_model, write_history, write_model
from stages.shared.objectives import objective_of, training_of, try_begin
from stages.shared.pairs import read_labelled, read_pairs
from stages.shared.params import GRID, load, read, section
from stages.shared.places import DATA, ENDED, PROGRESS
from stages.shared.progress import progress
from stages.shared.start import run, trim
from stages.shared.teachers import Learning, Taught


def read_data(flow: Taught, kind: type[Points | Pairs], split: str) -> tuple[list[int], Any]:
    """The seeds and the rows that a flow is trained on: the target's points, or pairs."""
    if kind is Points:
        return read_labelled(flow.dataset, "target", split)
    return read_pairs(flow.data, flow.dataset, split)


def rows_key(flow: Taught, row: Mapping[str, Any]) -> str:
    """The key that says how many rows a flow is trained on."""
    known = {"generate": f"{flow.dataset}: train", "reflow": "reflow.pairs"}
    return known.get(flow.data.split("/")[0], f"couplings.{row.get('coupling')}.pairs")


def chosen(row: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """A row of `methods`, the path `auto` replaced by a choice's outcome."""
    return {**row, "interpolant": json.loads((source / "choice.json").read_text())["path"]}


def rectified(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `methods` as a round of rectification trains it, whatever round 0 was: a velocity along straight lines."""
    kept = {name: row[name] for name in ("network", "training") if name in row}
    return {"objective": "matching", "interpolant": {"name": "linear"}, **kept}


def curves_table(seeds: list[int], curves: Curves) -> dict[str, np.ndarray]:
    """Rows `(seed, step, training, validation)`."""
    steps = np.tile(np.array(curves.steps, np.int32), (len(seeds), 1))
    losses = {"training": curves.training.numpy(), "validation": curves.validation.numpy()}
    return seed_major(seeds, {"step": steps, **losses})


def ended(source: Path, folder: Path) -> bool:
    """Whether there is nothing to train, as an earlier round was the last; hand on what the rounds were like."""
    for note in (PROGRESS, ENDED):
        if (source / note).exists():
            copy(source / note, folder / note)
    if (folder / ENDED).exists():
        copy(places.model(source), places.model(folder))
        return True
    return False


def depends(flow: Taught, row: Mapping[str, Any], options: Training, seeds: list[int]) -> str:
    """The key of a flow's training: a digest of all that its numbers depend on."""
    content = read()
    facts = [flow.model_dump(), dict(row), asdict(options), seeds, section(content, "network"), section(content, "compute")]
    code = [f"objective.{flow.objective}", *(f"model.{name}" for name in (flow.model, flow.teacher_model))]
    code += ["train", *(f"network.{name}" for name in (flow.network, flow.teacher_network))]
    data = [flow.data, flow.teacher, f"generate/{flow.dataset}"]
    return key_of(facts, [*(DATA / "code" / name for name in code), *(DATA / place for place in data)])


def main(args: list[str]) -> None:
    """`python -m stages.train NAME`, NAME a row of `flows`."""
    (name,) = args
    device = prepare()
    content, flow = read(), load(Taught, f"flows.{name}", GRID)
    key = f"methods.{flow.method}"
    row = section(content, key)
    source, folder = DATA / flow.data, places.trained(name)
    if ended(source, folder):
        return
    if flow.rectified:
        row = rectified(row)
    elif load(Learning, key).auto:
        row = chosen(row, source)
    options = training_of(content, row, key, flow.override.training)
    teacher = read_model(places.model(DATA / flow.teacher))[0].to(device) if flow.asks else None
    objective = objective_of(content, row, key, flow.override.network, teacher)
    start = read_model(places.model(source))[0].to(device) if flow.rectified else None
    seeds, data = read_data(flow, objective.data, "train")
    _, held_out = read_data(flow, objective.data, "validation")
    trim()

    begun = try_begin(objective, data.shape, key, conditions=data.conditions, vocabulary=data.vocabulary)
    require([beginning(data, rows_key(flow, row))], device)
    require(needs(begun, len(seeds), options, key), device)
    checkpoint = Checkpoint(name, depends(flow, row, options, seeds))
    say = progress(f"train {name}", options.steps)
    model, curves = fit(
        objective,
        data.to(device),
        held_out.to(device),
        [Generator().manual_seed(seed) for seed in seeds],
        options,
        start,
        lambda step, losses: say(step, "held-out loss " + " ".join(f"{loss:.4f}" for loss in losses)),
        checkpoint,
    )
    write_model(places.model(folder), model, seeds)
    write_table(places.curves(name), curves_table(seeds, curves))
    if curves.history:
        write_history(places.kept(name), curves.steps, curves.history)
    checkpoint.end()


if __name__ == "__main__":
    run(main)
