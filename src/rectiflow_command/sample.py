"""Draws of a trained model, in the columns and units of the rows that it was trained on."""

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import click
import numpy as np

from rectiflow.dataset import Label
from rectiflow.origin import Origin
from rectiflow_command.models import load
from rectiflow_command.outputs import FORMATS, format_of, free, read_rows, write_rows
from rectiflow_command.pictures import MOST, PICTURES, drawable, write_pictures
from rectiflow_command.words import model, output, progress, refused
from stages.shared.params import Refused

ROWS = 10_000


def named(labels: Sequence[str], rows: int, classes: Sequence[Label], where: str = "") -> list[Label] | None:
    """The classes of so many rows, of those that were said in turn; None where none was. Raises Refused for another, naming
    `where` it was said.
    """
    known = {str(name): name for name in classes}
    for label in labels:
        if label not in known:
            choices = ", ".join(known) or "any, as the model was trained without classes"
            raise Refused(f"{where}label: {label!r} is not one of {choices}")
    return [known[label] for label in islice(cycle(labels), rows)] if labels else None


def numbers(condition: str | None) -> list[float] | None:
    """The numbers between commas. Raises Refused for what is none."""
    try:
        return None if condition is None else [float(number) for number in condition.split(",")]
    except ValueError as error:
        raise Refused(f"condition: {condition!r} should be numbers, with commas between") from error


def beside(
    origin: Origin, labels: Sequence[Label] | None, condition: Sequence[float] | None, rows: int
) -> dict[str, np.ndarray]:
    """Columns of what was asked for."""
    found = {} if labels is None else {"label": np.array(labels)}
    names = origin.condition.names if origin.condition and condition else ()
    return found | {name: np.full(rows, number) for name, number in zip(names, condition or (), strict=False)}


@click.command()
@model
@click.option("-n", "rows", type=click.IntRange(1), help=f"How many rows; {ROWS}, or {MOST} pictures, by default.")
@click.option("--steps", type=int, help="How many steps the sampler takes.")
@click.option("--sampler", metavar="NAME", help="How to draw: euler, heun, rk4, dopri5, sde, ddim, langevin, jumps, once.")
@click.option("--label", "labels", multiple=True, metavar="CLASS", help="What the rows are to be; several: in turn.")
@click.option("--guidance", type=float, metavar="SCALE", help="How far to go towards the label: 1 is none.")
@click.option("--condition", metavar="NUMBERS", help="The numbers that the rows are to come with, as 1.5,-2.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the draws.")
@click.option("--of", "trained_with", type=int, metavar="SEED", help="Weights of this seed; by default of the first.")
@click.option("--x0", "start", type=click.Path(path_type=Path), metavar="ROWS", help="Start from the rows of this file.")
@output(f"Where the rows go: {', '.join(FORMATS)}; pictures to {PICTURES}, too.")
def command(
    name: str, root: Path, rev: str | None, rows: int | None, steps: int | None, sampler: str | None,
    labels: tuple[str, ...], guidance: float | None, condition: str | None, seed: int, trained_with: int | None,
    start: Path | None, out: Path, force: bool,
) -> None:  # fmt: skip
    """Draw rows from a trained model, in their own columns and units.

    NAME is a model of the project, as `rectiflow list` shows them, or a file that `rectiflow export` wrote. Rows of a
    conditional model have what was asked of them beside them, in a column `label`.

    \b
    Examples:
      rectiflow sample moons-otcfm-round1 -n 10000 --steps 1 -o draws.parquet
      rectiflow sample moons-icfm-round0 --sampler rk4 --rev HEAD~1 -o draws.csv
      rectiflow sample digits-guided-round0 --label 3 --guidance 2 -n 100 -o threes.png
      rectiflow sample flow.safetensors -o draws.npy
    """
    pictures = out.suffix == PICTURES
    if not pictures:
        format_of(out)
    free(out, force)
    trained = load(name, root, rev)
    x0 = None if start is None else read_rows(start, trained.origin.columns)
    if x0 is not None:
        rows = len(x0)
    elif rows is None:
        rows = MOST if pictures else ROWS
    if pictures:
        drawable(out, rows, trained.origin)
    asked, given = named(labels, rows, trained.origin.classes), numbers(condition)
    with refused(), progress(rows, "sampling") as say:
        if trained_with is not None:
            trained = trained.of(trained_with)
        drawn = trained.sample(
            rows, steps, sampler=sampler, seed=seed, x0=x0, label=asked, guidance=guidance, condition=given, progress=say
        )
    if pictures:
        write_pictures(out, drawn, trained)
        click.echo(f"{rows} pictures in {out}")
        return
    write_rows(out, drawn, trained.origin.columns, beside(trained.origin, asked, given, rows), trained.origin.words)
    click.echo(f"{rows} rows of {', '.join(name for name, _ in trained.origin.columns)} in {out}")
