"""What is trained in a project: every model, where its weights lie, and its headline numbers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from stages.shared.params import GRID, Refused, parse_file
from stages.shared.places import model, trained

SHOWN = (
    "w2",
    "w2_1step",
    "w2_floor",
    "frechet",
    "frechet_1step",
    "frechet_floor",
    "nll",
    "elbo",
)  # of metrics.json, those of which a model has some
METRICS = Path("reports/metrics.json")


def models(root: Path) -> Iterator[dict[str, Any]]:
    """One row a model of the grid, and one for what is drawn of latents and decoded: its name; its kind, as `conditional`,
    which draws what it is asked for; the file of its weights (that of the flow; None where it is not there); and what the
    report says of it, means over seeds.
    """
    grid, metrics = root / GRID, root / METRICS
    if not grid.exists():
        raise Refused(f"{root}: not a project, as it has no {GRID}; `python -m stages.grid` writes it from params.yaml")
    told, rows = json.loads(metrics.read_text()) if metrics.exists() else {}, parse_file(grid)
    for name, row in {**rows.get("flows", {}), **rows.get("decoded", {})}.items():
        place = model(trained(row.get("flow", name)))
        found = told.get(row["dataset"], {}).get(row["method"], {}).get(f"round{row['round']}", {})
        shown = {metric: found[metric] for metric in SHOWN if metric in found}
        yield {"model": name, "kind": row["model"], "weights": str(place) if (root / place).exists() else None, **shown}


def cell(value: Any) -> str:
    """What a table shows of a number, a path, or nothing."""
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Rows as lines of equal columns; a column that no row has is left out."""
    names = ["model", "kind", *(name for name in (*SHOWN, "weights") if any(name in row for row in rows))]
    cells = [names, *([cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(names))]
    for line in cells:
        yield "  ".join(one.ljust(width) for one, width in zip(line, widths, strict=True)).rstrip()


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
