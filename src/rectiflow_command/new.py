"""A project of one's own: parameters, and links to the installed pipeline."""

import os
import re
import shutil
from pathlib import Path

import click
import pyarrow as pa

import rectiflow
import stages
from rectiflow.files import write_bytes
from rectiflow_command.words import refused
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
IGNORED = [
    "/data/*",
    "!/data/*.parquet",
    "/reports/index.html",
    "/dvc.yaml",
    "/constraints.txt",
    "/stages",
    "/src",
    ".*.tmp",
]
SETTINGS = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
MOONS = "  NAME: {name: moons, source: normal, scale: 1.0, train: 10000, validation: 1000, test: 1000, pool: 20000}"
SHARES = {"validation": 0.1, "test": 0.2}  # of a table's rows that are held out


def new(folder: Path, table: Path | None) -> str:
    """Make a project in a folder, which must not have one; the name of its data set.

    Raises Refused for a folder that has one, for a table that is none of numbers, and for one of too few rows.
    """
    if (folder / "params.yaml").exists():
        raise Refused(f"{folder} is a project already; `--links` makes its links anew")
    name = "moons" if table is None else plain(table.stem)
    row = MOONS if table is None else table_row(table, name)
    folder.mkdir(parents=True, exist_ok=True)
    if table is not None:
        (folder / "data").mkdir(exist_ok=True)
        shutil.copyfile(table, folder / "data" / f"{name}.parquet")
    filled = {"DATASETS": "{}" if table else f"\n{row}", "TABLES": f"\n{row}" if table else "{}"}
    for file in ("params.yaml", "README.md"):
        text = (TEMPLATES / file).read_text()
        for word, said in filled.items():
            text = text.replace(f": {word}\n", f":{said}\n" if said.startswith("\n") else f": {said}\n")
        write_bytes(folder / file, text.replace("NAME", name).encode())
    write_bytes(folder / ".gitignore", "".join(f"{line}\n" for line in IGNORED).encode())
    settings = SETTINGS if tracked(folder) else SETTINGS + "    no_scm = true\n"
    write_bytes(folder / ".dvc" / "config", settings.encode())
    write_bytes(folder / ".dvc" / ".gitignore", b"/config.local\n/tmp\n/cache\n")
    link(folder)
    write_grid(folder)
    return name


def tracked(folder: Path) -> bool:
    """Whether a folder lies in a git repository, of which DVC then asks for what git ignores."""
    return any((place / ".git").exists() for place in (folder.resolve(), *folder.resolve().parents))


def link(folder: Path) -> None:
    """Make the links of a project anew. Raises Refused where there is something else in their place."""
    for name, place in LINKS.items():
        path = folder / name
        if path.exists() and not path.is_symlink():
            raise Refused(f"{path} is no link; the installed pipeline should be there")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.symlink(place.resolve(), path)


def plain(name: str) -> str:
    """A name that a stage may have."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower() or "mine"


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
    names = ", ".join(map(quoted, columns))
    return f"  {name}: {{path: data/{name}.parquet, columns: [{names}], scaling: standard, {held}, pool: 20000}}"


def quoted(name: str) -> str:
    """A column's name in YAML."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", name) else "'" + name.replace("'", "''") + "'"


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
    with refused():
        name = new(folder, table)
    click.echo(f"{folder} has the data set {name!r}; `cd {folder}` and `rectiflow repro` run it")
    return None
