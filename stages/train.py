"""Train one flow on stored pairs: `data/train/NAME/velocity.safetensors` and the loss curves beside it."""

import json
from typing import Any

import numpy as np

from rectiflow.interpolants import INTERPOLANTS, Interpolant, Linear
from rectiflow.networks.mlp import VELOCITIES
from rectiflow.training import Curves, Training, fit
from stages.shared.compute import prepare
from stages.shared.io import DATA, ENDED, PROGRESS, copy, seed_major, write_table
from stages.shared.models import read_velocity, write_history, write_velocity
from stages.shared.params import build, load, merged, named, read, section
from stages.shared.points import read_pairs
from stages.shared.progress import progress
from stages.shared.rows import Flow, Method
from stages.shared.start import run


def build_interpolant(method: Method, key: str) -> Interpolant:
    """The path of a method."""
    return named(INTERPOLANTS, method.interpolant, f"{key}.interpolant")


def path_of(method: Method, flow: Flow) -> Interpolant:
    """The path that a flow is trained on: straight after a round, a choice's outcome for `auto`, else the method's."""
    if flow.rectified:
        return Linear()
    if method.auto:
        choice = DATA / flow.pairs / "choice.json"
        return named(INTERPOLANTS, json.loads(choice.read_text())["path"], str(choice))
    return build_interpolant(method, f"methods.{flow.method}")


def build_network(spec: dict[str, Any], key: str, dim: int) -> Any:
    """The network of a flow for points of dimension `dim`."""
    return named(VELOCITIES, spec, key, dim=dim)


def specs(content: dict[str, Any], method: Method, flow: Flow) -> tuple[dict[str, Any], dict[str, Any]]:
    """Network and training of a flow: the shared sections, then the method's, then the row's own keys."""
    return (
        merged(section(content, "network"), method.network, flow.network),
        merged(section(content, "training"), method.training, flow.training),
    )


def curves_table(seeds: list[int], curves: Curves) -> dict[str, np.ndarray]:
    """Rows `(seed, step, training, validation)`."""
    steps = np.tile(np.array(curves.steps, np.int32), (len(seeds), 1))
    losses = {"training": curves.training.numpy(), "validation": curves.validation.numpy()}
    return seed_major(seeds, {"step": steps, **losses})


def main(args: list[str]) -> None:
    """`python -m stages.train NAME`, NAME a row of `flows`."""
    (name,) = args
    device = prepare()
    content, flow = read(), load(Flow, f"flows.{name}")
    key = f"methods.{flow.method}"
    method = load(Method, key)
    network_spec, training_spec = specs(content, method, flow)
    options = build(Training, training_spec, f"{key}.training")
    interpolant = path_of(method, flow)

    source, folder = DATA / flow.pairs, DATA / "train" / name
    for note in (PROGRESS, ENDED):
        if (source / note).exists():
            copy(source / note, folder / note)
    if (folder / ENDED).exists():
        copy(source / "velocity.safetensors", folder / "velocity.safetensors")
        return
    seeds, pairs = read_pairs(source / "pairs.parquet", "train")
    _, validation = read_pairs(source / "pairs.parquet", "validation")
    start = read_velocity(source / "velocity.safetensors")[0].to(device) if flow.rectified else None
    network = start.network if start else build_network(network_spec, f"{key}.network", pairs.x0.shape[-1])

    say = progress(f"train {name}", options.steps)
    velocity, curves = fit(
        network,
        interpolant,
        pairs.to(device),
        validation.to(device),
        seeds,
        options,
        start,
        lambda step, losses: say(step, "held-out loss " + " ".join(f"{loss:.4f}" for loss in losses)),
        "velocity" if flow.rectified else method.prediction,
    )
    write_velocity(folder / "velocity.safetensors", velocity, seeds)
    write_table(folder / "curves.parquet", curves_table(seeds, curves))
    if curves.history is not None:
        write_history(folder / "history.safetensors", curves.steps, curves.history)


if __name__ == "__main__":
    run(main)
