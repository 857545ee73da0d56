"""What is trained in a project: every model, where its weights lie, and its headline numbers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from stages.shared.params import GRID, Refused, parse_file
from stages.shared.places import model, trained

SHOWN = ("w2", "w2_1step", "w2_floor", "nll", "elbo")  # of metrics.json, those of which a model has some
METRICS = Path("reports/metrics.json")


def models(root: Path) -> Iterator[dict[str, str]]:
    """One row a model of the grid: its name, its file or that it is not trained, and what the report says of it."""
    grid, metrics = root / GRID, root / METRICS
    if not grid.exists():
        raise Refused(f"{root}: is no project: it has no {GRID}; `rectiflow check` writes it from params.yaml")
    told = json.loads(metrics.read_text()) if metrics.exists() else {}
    for name, row in parse_file(grid).get("flows", {}).items():
        place = model(trained(name))
        found = of_model(told, row)
        yield {"model": name, "weights": str(place) if (root / place).exists() else "not trained here", **found}


def of_model(told: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, str]:
    """The headline numbers, means over seeds."""
    found = told.get(row["dataset"], {}).get(row["method"], {}).get(f"round{row['round']}", {})
    return {name: f"{found[name]:.4g}" for name in SHOWN if name in found}


def table(rows: list[dict[str, str]]) -> Iterator[str]:
    """Rows as lines of equal columns; a column that no row has is left out."""
    names = ["model", *(name for name in (*SHOWN, "weights") if any(name in row for row in rows))]
    cells = [names, *([row.get(name, "-") for name in names] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(names))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


@click.command()
@click.option("--root", default=".", type=click.Path(path_type=Path), help="The project's folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(root: Path, as_json: bool) -> None:
    """What is trained, where, and its numbers: means over seeds, as in reports/metrics.json.

    \b
    Examples:
      rectiflow list
      rectiflow list --root experiments/one_step
    """
    rows = list(models(root))
    for line in map(json.dumps, rows) if as_json else table(rows):
        click.echo(line)
