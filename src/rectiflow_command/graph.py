"""The graph of a project's stages, as a text or a picture."""

from pathlib import Path

import click

from rectiflow.files import write_bytes
from rectiflow_command.models import Here
from rectiflow_command.outputs import free
from rectiflow_command.words import output
from rectiflow_command.words import root as root_option
from stages.grid import write_grid
from stages.report.graph import graph, mermaid, svg
from stages.shared.params import GRID, PARAMS, Refused

PIPELINE = Path("dvc.yaml")
FORMATS = {".mmd": mermaid, ".svg": svg}


@click.command()
@root_option
@output("A file, .mmd or .svg.", required=False)
def command(root: Path, out: Path | None, force: bool) -> None:
    """The stages of the project and what they need; those that differ by their row alone are one box with their number.

    Without a file Mermaid's text is printed.

    \b
    Examples:
      rectiflow graph
      rectiflow graph --root experiments/one_step -o graph.svg
    """
    if out is not None and out.suffix not in FORMATS:
        raise Refused(f"{out}: should end in {', '.join(FORMATS)}")
    project = Here(root)
    rows = project.section(PARAMS)
    write_grid(root)
    found = graph(project.section(PIPELINE), {**rows, **project.section(GRID)})
    if out is None:
        return click.echo(mermaid(found), nl=False)
    free(out, force)
    return write_bytes(out, FORMATS[out.suffix](found).encode())
