"""Log densities of a user's rows by a trained model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from rectiflow.origin import Origin
from rectiflow.trained import Trained
from rectiflow.units import Units
from rectiflow_command.models import MODEL, load, view
from rectiflow_command.outputs import format_of, free, read_columns, read_rows, write_columns
from rectiflow_command.sample import named, numbers
from rectiflow_command.words import model, output, progress, refused
from stages.shared import places
from stages.shared.compute import stream
from stages.shared.io import read_table
from stages.shared.params import GRID, PARAMS, Refused, merged


def scores(
    trained: Trained,
    own: np.ndarray,
    how: Mapping[str, Any],
    held: Mapping[int, np.ndarray],
    say: Callable[[int, int], None],
) -> dict[str, Any]:
    """Columns `log_prob`, that of the mean of all seeds' densities, `share`, the part of the validation set that is less
    likely, in the mean over seeds, where `held` has the log densities of one, and `seed_0` and so on, those of each.
    """
    columns, shares = {}, []
    for k, seed in enumerate(trained.seeds):
        found = trained.of(seed).log_prob(own, **how)
        if (bad := np.isnan(found) | (found == np.inf)).any():
            raise Refused(f"row {int(np.flatnonzero(bad)[0])}: its density by seed {seed} is not a number")
        columns[f"seed_{seed}"] = found
        if seed in held:
            shares.append(np.searchsorted(np.sort(held[seed]), found) / len(held[seed]))
        say(k + 1, len(trained.seeds))
    together = np.logaddexp.reduce(list(columns.values())) - np.log(len(columns))
    return {"log_prob": together, **({"share": np.mean(shares, 0)} if shares else {}), **columns}


def filled(own: np.ndarray, units: Units | None, path: Path) -> np.ndarray:
    """Rows that the model can see; whole levels get the noise that fills them, the same each time. Raises Refused for a
    value that lies outside of what its numbers can be.
    """
    given = own
    if units and units.levels and (own == np.floor(own)).all():
        own = own + stream_of_levels(own.shape)
    with np.errstate(all="ignore"):
        x = units(own) if units else own.astype(np.float32)
    inside = (own >= 0) & (own <= units.levels) if units and units.levels else True
    if len(bad := np.argwhere(~(np.isfinite(x) & inside))):
        row, place = bad[0]
        raise Refused(f"{path}: row {row}: {given[row, place]:g} lies outside of what the data set's numbers can be")
    return own


def stream_of_levels(shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers in [0, 1)."""
    import torch

    noise: np.ndarray = torch.rand(shape, generator=stream("density/levels", 0), dtype=torch.float64).numpy()
    return noise


def settings(root: Path, rev: str | None, name: str) -> dict[str, Any]:
    """How the project measures this model's density: the section `density` with what its row has in place of it."""
    with view(root, rev) as project:
        section, rows = project.section(PARAMS).get("density", {}), project.section(GRID).get("densities", {})
    section = merged(section, rows.get(name, {}).get("override", {}))
    return {key: section[key] for key in ("solver", "divergence") if key in section}


def validated(root: Path, name: str, seeds: tuple[int, ...]) -> dict[int, np.ndarray]:
    """The log densities of the validation set by seed, where the project measured them."""
    path = root / places.scores(name)
    return {seed: read_table(path, seed=seed, split="validation")["log_prob"] for seed in seeds} if path.exists() else {}


def given(origin: Origin, rows: Path, n: int, label: str | None, condition: str | None, beside: bool) -> dict[str, Any]:
    """The label and the condition of n rows: what was said for all of them, or what stands beside each in the file, in the
    columns that draws have it in. Raises Refused for a class or a column that there is not, and for both ways at once.
    """
    if not beside:
        return {"label": named([] if label is None else [label], n, origin.classes), "condition": numbers(condition)}
    if label is not None or condition is not None:
        raise Refused("beside: reads label and condition from the file; leave --label and --condition out")
    if not origin.choices:
        raise Refused("beside: this model was trained without label and condition; leave --beside out")
    found: dict[str, Any] = {}
    if origin.classes:
        (labels,) = read_columns(rows, ["label"])
        found["label"] = named([str(each) for each in labels], n, origin.classes, f"{rows}: ")
    if origin.condition:
        found["condition"] = read_rows(rows, [(name, 1) for name in origin.condition.names])
    return found


@click.command()
@model
@click.argument("rows", type=click.Path(path_type=Path))
@click.option("--label", metavar="CLASS", help="Score by the law of this class.")
@click.option("--condition", metavar="NUMBERS", help="Score by the law under these numbers, as 1.5,-2.")
@click.option("--beside", is_flag=True, help="Score each row by the law of its own label and condition, columns of ROWS.")
@output("Where the scores go: .parquet, .csv or .npy.")
def command(
    name: str, root: Path, rev: str | None, rows: Path, label: str | None, condition: str | None, beside: bool, out: Path,
    force: bool,
) -> None:  # fmt: skip
    """Score the rows of a Parquet file by a trained density: log p in nats, in the rows' own units.

    NAME is a model of the project, or a file that `rectiflow export` wrote. `log_prob` is that of the mean of all seeds'
    densities, `seed_0` and so on those of each; `share` is the part of the validation set that is less likely, where the
    project measured that: rows below 0.05 are outliers. A conditional model's density is that of all classes together,
    unless a label or a condition is given.

    \b
    Examples:
      rectiflow score twomoons-nsf-round0 rows.parquet -o scores.parquet
      rectiflow score flow.safetensors rows.parquet -o scores.csv
      rectiflow score digits-classes-round0 draws.parquet --beside -o scores.parquet
    """
    format_of(out)
    free(out, force)
    trained = load(name, root, rev)
    own = filled(read_rows(rows, trained.origin.columns), trained.origin.units, rows)
    known = None if name.endswith(MODEL) else name
    asked = given(trained.origin, rows, len(own), label, condition, beside)
    together = all(value is None for value in asked.values())  # the validation set was measured so
    held = validated(root, known, trained.seeds) if known is not None and rev is None and together else {}
    how = asked | ({} if known is None else settings(root, rev, known))
    with refused(), progress(len(trained.seeds), "scoring") as say:
        found = scores(trained, own, how, held, say)
    write_columns(out, found)
    click.echo(f"{len(own)} rows scored in {out}")
