"""Trained models by name: of the project as it is, or as a git revision had it, with what their numbers stand for."""

import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
from ruamel.yaml import YAML

from rectiflow.origin import Origin
from rectiflow.registry import built
from rectiflow.saved import condition_of, of_bytes, read
from rectiflow.trained import Trained
from rectiflow.units import UNITS
from stages.generate import gaussian_source, parse_builtin
from stages.shared import places
from stages.shared.params import GRID, PARAMS, Refused, parse_file

MODEL = ".safetensors"  # how a file's name ends that is a model


class NotThere(Refused, FileNotFoundError):
    """There is no such model, revision or artifact."""


class Damaged(Refused, ValueError):
    """What is there is no model that can be used."""


class View(Protocol):
    """A project at some time. Paths are relative to it."""

    def section(self, path: Path) -> Mapping[str, Any]:
        """All of a YAML file."""
        ...

    def text(self, path: Path) -> str | None:
        """A text that git tracks; None where there is none."""
        ...

    def content(self, path: Path) -> bytes:
        """An artifact's content. Raises NotThere where it is not to be had."""
        ...

    def has(self, path: Path) -> bool:
        """Whether there is such an artifact."""
        ...

    def table(self, path: Path) -> bytes:
        """A user's table, or the target in a folder of two. Raises NotThere where it is not to be had."""
        ...

    @property
    def commit(self) -> str | None:
        """The commit's hash; None for the working tree."""
        ...


class Here:
    """The working tree."""

    commit = None

    def __init__(self, root: Path) -> None:
        self.root = root

    def table(self, path: Path) -> bytes:
        return self.content(path / "target.parquet" if (self.root / path).is_dir() else path)

    def section(self, path: Path) -> Mapping[str, Any]:
        if not (self.root / path).exists():
            raise NotThere(f"{self.root}: not a project, as it has no {path}; `rectiflow new` makes one")
        return parse_file(self.root / path)

    def text(self, path: Path) -> str | None:
        return (self.root / path).read_text("utf-8", "replace") if self.has(path) else None

    def content(self, path: Path) -> bytes:
        if not self.has(path):
            raise NotThere(f"{path} is not there; `rectiflow repro` makes it, or `dvc pull` brings it")
        return (self.root / path).read_bytes()

    def has(self, path: Path) -> bool:
        return (self.root / path).exists()


class At:
    """A git revision or a DVC experiment: texts are git's, artifacts those that its lock names, in DVC's cache or remote."""

    def __init__(self, root: Path, revision: str) -> None:
        from dvc.repo import Repo

        from flows.revisions.commits import resolve

        self.root, self.revision = root, revision
        try:
            with chdir(root):
                self.commit = resolve(revision)
        except Refused as error:
            raise NotThere(str(error)) from error
        self._hashes = dict(self._outs())
        self.repo = Repo(str(root))

    def _blob(self, path: Path) -> bytes | None:
        """What git has of a file; None where it has none."""
        from flows.revisions.commits import raw

        try:
            with chdir(self.root):
                return raw("cat-file", "blob", f"{self.commit}:./{path.as_posix()}")
        except Refused:
            return None

    def text(self, path: Path) -> str | None:
        found = self._blob(path)
        return None if found is None else found.decode("utf-8", "replace")

    def section(self, path: Path) -> Mapping[str, Any]:
        found = YAML(typ="safe").load(self.text(path) or "")
        if not isinstance(found, dict):
            raise NotThere(f"{self.revision}: there is no {path} with sections")
        return found

    def _outs(self) -> Iterator[tuple[Path, str]]:
        for stage in self.section(Path("dvc.lock"))["stages"].values():
            yield from ((Path(out["path"]), out["md5"]) for out in stage.get("outs", ()))

    def _hash(self, path: Path) -> str | None:
        """The hash of a file that is an output, or in one that is a folder."""
        if path in self._hashes:
            return self._hashes[path]
        for folder in path.parents:
            if folder in self._hashes:
                entries = json.loads(self._object(self._hashes[folder], folder))
                inside = path.relative_to(folder).as_posix()
                return next((entry["md5"] for entry in entries if entry["relpath"] == inside), None)
        return None

    def _object(self, digest: str, path: Path) -> bytes:
        """An object of DVC's cache, or else of the remote, that has its hash."""
        from rectiflow_command.verify import whole

        stores = [self.repo.cache.local]
        if self.repo.config["core"].get("remote"):
            stores.append(self.repo.cloud.get_remote_odb())
        for store in stores:
            if (found := whole(store, digest)) is not None:
                return found
        raise NotThere(f"{self.revision}: {path} is neither in DVC's cache nor on a remote")

    def content(self, path: Path) -> bytes:
        digest = self._hash(path)
        if digest is None:
            raise NotThere(f"{self.revision}: its lock has no {path}")
        return self._object(digest, path)

    def has(self, path: Path) -> bool:
        return self._hash(path) is not None

    def table(self, path: Path) -> bytes:
        for place in (path, path / "target.parquet"):
            if (found := self._blob(place)) is not None:
                return found
        raise NotThere(f"{self.revision}: git has no {path}, whose columns' widths are asked for")


@contextmanager
def view(root: Path, rev: str | None) -> Iterator[View]:
    """A project as it is, or as a revision had it."""
    if rev is None:
        yield Here(root)
        return
    at = At(root, rev)
    try:
        yield at
    finally:
        at.repo.close()


def load(name: str, root: Path = Path(), rev: str | None = None) -> Trained:
    """The model of a name, with the units of its rows; or that in a file.

    Raises NotThere for a name, a revision or weights that are not there, with the nearest, and Damaged for weights that are
    not what was written.
    """
    if name.endswith(MODEL) and rev is None:
        return of_file(Path(name))
    with view(root, rev) as project:
        grid, params = project.section(GRID), project.section(PARAMS)
        row = row_of(name, grid, rev)
        path = places.model(places.trained(name))
        trained = bare(project.content(path), path)
        origin = origin_of(project, row, params, grid.get("samples", {}).get(name, {}).get("independent", True))
        if trained.model.conditional:
            origin = replace(origin, **asked_of(project, row["dataset"]))
    facts = {"name": name, "revision": project.commit, **{key: row[key] for key in ("dataset", "method", "round")}}
    facts |= {"row": params.get("methods", {}).get(row["method"], {})}
    return Trained(trained.model, trained.seeds, origin, {key: value for key, value in facts.items() if value is not None})


def of_file(path: Path) -> Trained:
    """A model in a file. The weights of a stage are looked for in their project, where their units are known."""
    whole = path.resolve()
    root = whole.parents[3] if len(whole.parents) > 3 else whole.parent
    if (root / GRID).exists() and whole == root / places.model(places.trained(whole.parent.name)):
        return load(whole.parent.name, root)
    try:
        return read(path)
    except FileNotFoundError as error:
        raise NotThere(str(error)) from error
    except ValueError as error:
        raise Damaged(str(error)) from error


def bare(content: bytes, path: Path) -> Trained:
    """The weights of a stage, without what they are of."""
    try:
        return of_bytes(content)
    except ValueError as error:
        raise Damaged(f"{path}: {error}; `rectiflow verify` takes away what is damaged") from error


def row_of(name: str, grid: Mapping[str, Any], rev: str | None = None) -> Mapping[str, Any]:
    """The row of `flows` of a name."""
    flows: Mapping[str, Any] = grid.get("flows", {})
    if name in grid.get("decoded", {}):
        raise NotThere(f"{name!r} is drawn in latents and decoded; the model is {grid['decoded'][name]['flow']!r}")
    if name not in flows:
        near = get_close_matches(name, flows, 3, 0.4) or list(flows)[:12]
        raise NotThere(f"there is no model {name!r}{f' at {rev}' if rev else ''}; there is {', '.join(near)}")
    row: Mapping[str, Any] = flows[name]
    return row


def origin_of(project: View, row: Mapping[str, Any], params: Mapping[str, Any], independent: bool) -> Origin:
    """What the numbers of a data set's models stand for."""
    dataset = row["dataset"]
    about = json.loads(project.content(places.about(dataset)))
    shape, units = tuple(about["shape"]), about.get("units")
    dim, found = math.prod(shape), None if units is None else built(UNITS, units)
    if vocabulary := tuple(about.get("vocabulary", ())):
        names = params.get("tables", {}).get(dataset, {}).get("tokens")
        columns = tuple((name, 1) for name in names) if names else (("x", dim),)
        return Origin(columns, shape=shape, vocabulary=vocabulary, words=tuple(map(tuple, about.get("words", ()))))
    if dataset in params.get("tables", {}):
        columns = widths(project, params["tables"][dataset], dim)
        return Origin(columns, found, None, project.has(places.table(dataset, "source")), independent, shape=shape)
    source = None
    if dataset in params.get("datasets", {}):
        own = params["datasets"][dataset]
        if not gaussian_source("datasets", own, f"datasets.{dataset}"):
            source = {"name": own["name"], **parse_builtin(own, f"datasets.{dataset}")[2]}
    return Origin((("x", dim),), found, source, False, independent, shape=shape)


def asked_of(project: View, dataset: str) -> dict[str, Any]:
    """What a conditional model of a data set may be asked for, as `Origin` has it."""
    about = json.loads(project.content(places.about(dataset)))
    condition = about.get("condition")
    return {"classes": tuple(about["classes"] or ()), "condition": None if condition is None else condition_of(condition)}


def widths(project: View, table: Mapping[str, Any], dim: int) -> tuple[tuple[str, int], ...]:
    """The columns of a table with their widths; those of several vectors are read off the file."""
    names = table.get("columns") or table["states"]
    if len(names) in (1, dim):
        return tuple((name, dim // len(names)) for name in names)
    schema = pq.read_schema(io.BytesIO(project.table(Path(table["path"]))))
    return tuple((name, getattr(schema.field(name).type, "list_size", 1)) for name in names)
