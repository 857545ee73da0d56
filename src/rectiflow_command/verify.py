"""Whether every artifact is what the lock says: in DVC's cache, in the working tree and, if asked, on a remote.

    rectiflow verify
    rectiflow verify --remote storage

DVC trusts a file whose size and time of change are those that it knows, and reads no more of it. Here every byte is read.
What is damaged is named and then taken away, so that the next run makes it again, or brings it back; a remote gets it by the
next `dvc push`. In the working tree that is a file which DVC takes for unchanged. What DVC knows to be another, such as an
edited file or that of another commit, is named and left: the next run sees to it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from hashlib import md5
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import click
from dvc.output import Output

from flows.running.pipeline import Pipeline

FOLDER = ".dir"  # how DVC ends the hash of a folder, whose object is a list of its files
BLOCK = 2**20

How = Literal["damaged", "changed", "missing"]


class Found(NamedTuple):
    """What is not as the lock says: its name in the project, how, and where."""

    name: str
    how: How
    where: str

    def __str__(self) -> str:
        if self.how == "changed":
            return f"{self.name}: is not that of dvc.lock; the next run sees to it"
        return f"{self.name}: {self.how} {'in' if self.where != 'remote' else 'on'} the {self.where}"


class Artifact(NamedTuple):
    """A file, or the list of a folder's files: its name in the project, its hash, its place in the working tree, and the
    list that names it.
    """

    name: str
    digest: str
    place: Path | None
    folder: str | None = None


class Verification:
    """The stores of a project, and what was found in them: `tell` hears of each before it is taken away."""

    def __init__(self, pipeline: Pipeline, remote: str | None, keep: bool, tell: Callable[[Found], None]) -> None:
        repo = pipeline.repo
        self.stores: dict[str, Any] = {"cache": repo.cache.local}
        if remote is not None:
            self.stores["remote"] = repo.cloud.get_remote_odb(remote)
        self.keep, self.tell, self.read = keep, tell, 0
        self._seen: set[tuple[str, str]] = set()
        self._taken: set[tuple[str, str]] = set()  # away, and told of: not missing

    def artifacts(self, out: Output) -> Iterator[Artifact]:
        """A folder's list and the files in it, where a store has the list whole; or the file that an output is."""
        digest, place = out.hash_info.value, Path(out.fs_path)
        if not digest.endswith(FOLDER):
            yield Artifact(out.def_path, digest, place)
            return
        yield Artifact(out.def_path, digest, None)
        for store in self.stores.values():
            if (content := whole(store, digest)) is not None:
                for entry in json.loads(content):
                    name = entry["relpath"]
                    yield Artifact(f"{out.def_path}/{name}", entry["md5"], place / name, digest)
                return

    def look(self, out: Output) -> None:
        """Read an output wherever it is."""
        status = out.workspace_status()
        changed = bool(status) and "deleted" not in status.values()
        if changed:
            self.tell(Found(out.def_path, "changed", "working tree"))
        for artifact in self.artifacts(out):
            cached = {name: self.stored(name, artifact) for name in self.stores if out.use_cache}
            if not status:
                self.check(artifact)
            here = not status if artifact.place is None else artifact.place.exists()
            if not (any(cached.values()) or here or (artifact.name, "working tree") in self._taken):
                self.tell(Found(artifact.name, "missing", "cache and the working tree"))
            if out.use_cache and "remote" in cached and not cached["remote"]:
                self.tell(Found(artifact.name, "missing", "remote"))

    def stored(self, where: str, artifact: Artifact) -> bool:
        """Whether a store has an artifact, be it damaged."""
        store = self.stores[where]
        path = store.oid_to_path(artifact.digest)
        if not store.fs.exists(path):
            return (artifact.digest, where) in self._taken
        if (artifact.digest, where) not in self._seen:
            self._seen.add((artifact.digest, where))
            self.read += 1
            if not intact(store.fs.open(path, "rb"), artifact.digest):
                self.tell(Found(artifact.name, "damaged", where))
                if not self.keep:
                    self._taken.add((artifact.digest, where))
                    store.fs.remove(path)
                    self._unlist(where, artifact)
        return True

    def _unlist(self, where: str, artifact: Artifact) -> None:
        """DVC asks a remote for a folder's list alone, and believes that its files are there, too: without the list they are
        sent again.
        """
        if where == "remote" and artifact.folder is not None:
            path = self.stores[where].oid_to_path(artifact.folder)
            if self.stores[where].fs.exists(path):
                self._taken.add((artifact.folder, where))
                self.stores[where].fs.remove(path)

    def check(self, artifact: Artifact) -> None:
        """Read a file of the working tree that DVC takes for unchanged."""
        place = artifact.place
        if place is None or not place.is_file():
            return
        self.read += 1
        if not intact(place.open("rb"), artifact.digest):
            self.tell(Found(artifact.name, "damaged", "working tree"))
            if not self.keep:
                self._taken.add((artifact.name, "working tree"))
                place.unlink()


def intact(file: BinaryIO, digest: str) -> bool:
    """Whether a file's content has a hash; it is closed."""
    found = md5()
    with file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest() == digest.removesuffix(FOLDER)


def whole(store: Any, digest: str) -> bytes | None:
    """The content of an object that has its hash."""
    path = store.oid_to_path(digest)
    if not store.fs.exists(path):
        return None
    with store.fs.open(path, "rb") as file:
        content: bytes = file.read()
    return content if intact(BytesIO(content), digest) else None


def verify(
    root: Path,
    remote: str | None,
    keep: bool,
    tell: Callable[[Found], None],
    say: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """How many files were read. `tell` hears of what is not as the lock says; what is damaged is then taken away, unless it
    is to be kept. No stage may write meanwhile.

    Raises DvcException for a folder without a project, for a remote that does not exist, and while stages run; OSError for
    what cannot be read or taken away.
    """
    pipeline = Pipeline(root)
    with pipeline.reading():
        verification = Verification(pipeline, remote, keep, tell)
        outs = [out for stage in pipeline.stages.values() for out in stage.outs if out.hash_info]
        for done, out in enumerate(outs):
            say(done, len(outs))
            verification.look(out)
        say(len(outs), len(outs))
    return verification.read


@click.command()
@click.option("--root", default=".", type=click.Path(path_type=Path), help="The project's folder.")
@click.option("--remote", metavar="NAME", help="Read what is on this DVC remote, too.")
@click.option("--keep", is_flag=True, help="Name what is damaged and leave it where it is.")
def command(root: Path, remote: str | None, keep: bool) -> None:
    """Read every artifact of the lock and take away what is damaged.

    \b
    Examples:
      rectiflow verify
      rectiflow verify --keep --remote storage
    """
    found: list[Found] = []

    def tell(one: Found) -> None:
        found.append(one)
        click.echo(str(one))

    with click.progressbar(length=1000, label="reading", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        read = verify(root, remote, keep, tell, lambda done, of: bar.update(1000 * done // max(1, of) - bar.pos))
    bad, absent = ([one for one in found if one.how == how] for how in ("damaged", "missing"))
    if bad:
        left = "" if keep else "; taken away, so that the next run makes it again, and the next push sends it"
        raise click.ClickException(f"{len(bad)} of {read} files are damaged{left}")
    if absent:
        raise click.ClickException(f"{len(absent)} files are missing; `dvc pull` or the next run brings them")
    click.echo(f"{read} files are what dvc.lock says")
