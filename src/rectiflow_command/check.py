"""Whether the parameters of a project are right, and what follows from them."""

from contextlib import chdir
from pathlib import Path

import click

from rectiflow_command.words import root as root_option
from stages.check.whole import check
from stages.grid import write_grid
from stages.shared.params import PARAMS, read


@click.command()
@root_option
def command(root: Path) -> None:
    """Is params.yaml right? What is wrong is told in one line: key, value and choices. Nothing is run.

    \b
    Examples:
      rectiflow check
      rectiflow check --root experiments/one_step
    """
    with chdir(root):
        if write_grid():
            click.echo("grid.yaml is written anew")
        rows = check(read())
    click.echo(f"{PARAMS} is right: {len(rows['flows'])} models")
