"""A project of one's own: parameters, and links to the installed pipeline."""

import json
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import click
import pyarrow as pa
from ruamel.yaml import YAML

import rectiflow
import stages
from rectiflow.files import write_bytes
from stages.grid import write_grid
from stages.shared.params import Refused
from stages.shared.tables import opened

TEMPLATES = Path(__file__).parent / "project"
# What a project shares with all others, and where that is installed; by another name, or DVC would take it for a project.
LINKS = {
    "dvc.yaml": TEMPLATES / "pipeline.yaml",
    "constraints.txt": TEMPLATES / "constraints.txt",
    "stages": Path(stages.__path__[0]),
    "src/rectiflow": Path(rectiflow.__path__[0]),
}
OWN = ("params.yaml", "grid.yaml", "README.md", ".gitignore", ".dvcignore", ".dvc")  # what is written besides
IGNORED = (
    "/data/*", "!/data/*.parquet", "/reports/index.html", "/reports/compare.html", "/reports/sweep.html", "/reports/times.*",
    *(f"/{name}" for name in dict.fromkeys(name.split("/")[0] for name in LINKS)),
    "/.prefect/", "/dvc_plots/", "__pycache__/", ".*.tmp",
)  # fmt: skip
UNREAD = ("__pycache__", ".venv*", ".*.tmp", ".prefect")  # by DVC
SETTINGS = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
MOONS = "moons: {name: moons, source: normal, scale: 1.0, train: 10000, validation: 1000, test: 1000, pool: 20000}"
SHARES = {"validation": 0.1, "test": 0.2}  # of a table's rows that are held out


def new(folder: Path, table: Path | None) -> str:
    """Make a project in a folder; the name of its data set. Nothing that is there is changed.

    Raises Refused for a folder that has a project, or anything that a project has, for a table that is none of numbers, and
    for one of too few rows.
    """
    name = "moons" if table is None else plain(table.stem)
    row = MOONS if table is None else table_row(table, name)
    if (folder / "params.yaml").exists():
        raise Refused(f"{folder} is a project already; `--links` makes its links anew")
    data = [] if table is None else [f"data/{name}.parquet"]
    if taken := [path for path in (*OWN, *LINKS, *data) if os.path.lexists(folder / path)]:
        raise Refused(f"{folder} has {', '.join(taken)} already; make the project in a folder of its own")
    if table is not None:
        write_bytes(folder / data[0], table.read_bytes())
    write_bytes(folder / ".dvc" / "config", (SETTINGS + ("" if tracked(folder) else "    no_scm = true\n")).encode())
    write_bytes(folder / ".dvc" / ".gitignore", b"/config.local\n/tmp\n/cache\n")
    texts = {
        ".gitignore": lines(IGNORED), ".dvcignore": lines(UNREAD),
        "README.md": template("README.md").replace("NAME", name),
        "params.yaml": template("params.yaml").replace("NAME", name)
        .replace("datasets: DATASETS", "datasets: {}" if table else f"datasets:\n  {row}")
        .replace("tables: TABLES", f"tables:\n  {row}" if table else "tables: {}"),
    }  # fmt: skip
    for file, text in texts.items():
        write_bytes(folder / file, text.encode())
    link(folder)
    write_grid(folder)
    return name


def template(file: str) -> str:
    """A text of the package's."""
    return (TEMPLATES / file).read_text()


def lines(of: Iterable[str]) -> str:
    """One a line."""
    return "".join(f"{line}\n" for line in of)


def tracked(folder: Path) -> bool:
    """Whether a folder lies in a git repository, of which DVC then asks for what git ignores."""
    return any((place / ".git").exists() for place in (folder.resolve(), *folder.resolve().parents))


def link(folder: Path) -> None:
    """Make the links of a project anew. Raises Refused where there is something else in their place."""
    if taken := [name for name in LINKS if (folder / name).exists() and not (folder / name).is_symlink()]:
        raise Refused(f"{folder / taken[0]} is no link; the installed pipeline should be there")
    for name, place in LINKS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.symlink(place.resolve(), path)


def plain(name: str) -> str:
    """A name that a stage may have, and YAML takes for a text."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()
    return name if isinstance(YAML(typ="safe").load(name or "~"), str) and name[0].isalpha() else f"table_{name}".rstrip("_")


def table_row(path: Path, name: str) -> str:
    """The row of `tables` of a file: all its columns of numbers, a tenth of its rows to validate and a fifth to test."""
    with opened(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    columns = [field.name for field in schema if numeric(field.type)]
    if not columns:
        raise Refused(f"{path}: none of its columns holds numbers: {', '.join(schema.names)}")
    if rows < 20:
        raise Refused(f"{path}: has {rows} rows; a project needs 20, as some are held out")
    held = ", ".join(f"{split}: {max(2, int(share * rows))}" for split, share in SHARES.items())
    names = ", ".join(map(json.dumps, columns))
    return f"{name}: {{path: data/{name}.parquet, columns: [{names}], scaling: standard, {held}, pool: 20000}}"


def numeric(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, or vectors of one size."""
    kind = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--table", type=click.Path(path_type=Path), metavar="ROWS", help="A Parquet file, which is copied into it.")
@click.option("--links", is_flag=True, help="Make the links of a project anew, as in a clone on another machine.")
def command(folder: Path, table: Path | None, links: bool) -> None:
    """Make a project of your own in FOLDER.

    \b
    Examples:
      rectiflow new mine --table rows.parquet
      rectiflow new moons
      rectiflow new . --links
    """
    if links:
        if not (folder / "params.yaml").exists():
            raise Refused(f"{folder}: not a project, as it has no params.yaml")
        return link(folder)
    name = new(folder, table)
    click.echo(f"{folder} has the data set {name!r}; `cd {shlex.quote(str(folder))}` and `rectiflow repro` run it")
    return None
