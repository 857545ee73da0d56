"""Draws of a trained model, in the columns and units of the rows that it was trained on."""

from pathlib import Path

import click

from rectiflow_command.models import load
from rectiflow_command.outputs import format_of, free, read_rows, write_rows
from rectiflow_command.words import model, output, progress, refused


@click.command()
@model
@click.option("-n", "rows", default=10_000, show_default=True, type=click.IntRange(1), help="How many rows.")
@click.option("--steps", type=int, help="How many steps the sampler takes.")
@click.option("--sampler", metavar="NAME", help="How to draw: euler, heun, rk4, dopri5, sde, ddim, langevin, jumps, once.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the draws.")
@click.option("--of", "trained_with", type=int, metavar="SEED", help="Weights of this seed; by default of the first.")
@click.option("--x0", "start", type=click.Path(path_type=Path), metavar="ROWS", help="Start from the rows of this file.")
@output("Where the rows go: .parquet, .csv or .npy.")
def command(
    name: str, root: Path, rev: str | None, rows: int, steps: int | None, sampler: str | None, seed: int,
    trained_with: int | None, start: Path | None, out: Path, force: bool,
) -> None:  # fmt: skip
    """Draw rows from a trained model, in their own columns and units.

    NAME is a model of the project, as `rectiflow list` shows them, or a file that `rectiflow export` wrote.

    \b
    Examples:
      rectiflow sample moons-otcfm-round1 -n 10000 --steps 1 -o draws.parquet
      rectiflow sample moons-icfm-round0 --sampler rk4 --rev HEAD~1 -o draws.csv
      rectiflow sample flow.safetensors -o draws.npy
    """
    format_of(out)
    free(out, force)
    trained = load(name, root, rev)
    x0 = None if start is None else read_rows(start, trained.origin.columns)
    rows = rows if x0 is None else len(x0)
    with refused(), progress(rows, "sampling") as say:
        if trained_with is not None:
            trained = trained.of(trained_with)
        drawn = trained.sample(rows, steps, sampler=sampler, seed=seed, x0=x0, progress=say)
    write_rows(out, drawn, trained.origin.columns)
    click.echo(f"{rows} rows of {', '.join(name for name, _ in trained.origin.columns)} in {out}")
