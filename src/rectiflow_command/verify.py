"""Whether every artifact is what the lock says: in DVC's cache, in the working tree and, if asked, on a remote.

    rectiflow verify
    rectiflow verify --remote storage

DVC trusts a file whose size and time of change are those that it knows, and reads no more of it. Here every byte is read.
What is damaged is named and taken away, so that the next run makes it again, or brings it back.
"""

import json
import sys
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import click
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage

from stages.shared.params import Refused

FOLDER = ".dir"  # how DVC ends the hash of a folder, whose object is a list of its files
BLOCK = 2**20

Say = Callable[[int, int], None]


class Artifact(NamedTuple):
    """A file or folder of the lock: what it is called in the project, its hash and, in the working tree, its place."""

    name: str
    digest: str
    place: Path | None


class Damage(NamedTuple):
    """What is not what its hash says, and where."""

    name: str
    where: str


def artifacts(repo: Repo) -> Iterator[Artifact]:
    """All that the lock says was written: folders, the files in them where their lists are in the cache, and files."""
    for stage in repo.index.stages:
        for out in stage.outs if isinstance(stage, PipelineStage) else ():
            if out.hash_info and out.hash_info.value:
                yield from of_output(out)


def of_output(out: Output) -> Iterator[Artifact]:
    digest, place = out.hash_info.value, Path(out.fs_path)
    if not digest.endswith(FOLDER):
        yield Artifact(out.def_path, digest, place)
        return
    yield Artifact(out.def_path, digest, None)
    listed = Path(out.cache.oid_to_path(digest))
    if listed.exists() and intact(listed.open("rb"), digest):
        for entry in json.loads(listed.read_bytes()):
            name = entry["relpath"]
            yield Artifact(f"{out.def_path}/{name}", entry["md5"], place / name)


def intact(file: BinaryIO, digest: str) -> bool:
    """Whether a file's content has a hash; it is closed."""
    found = md5()
    with file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest() == digest.removesuffix(FOLDER)


def verify(root: Path, remote: str | None, keep: bool, say: Say = lambda done, of: None) -> tuple[int, list[Damage]]:
    """How many files were read, and what of them is damaged; that is taken away unless it is to be kept.

    Raises Refused for a folder without a project and for a remote that there is not.
    """
    try:
        repo = Repo(str(root))
        cache, beyond = repo.cache.local, repo.cloud.get_remote_odb(remote) if remote is not None else None
        with repo.lock:
            return look(list(artifacts(repo)), cache, beyond, keep, say)
    except DvcException as error:
        raise Refused(" ".join(str(error).split())) from error


def look(found: list[Artifact], cache: Any, beyond: Any, keep: bool, say: Say) -> tuple[int, list[Damage]]:
    """The same of given artifacts, in a cache and a remote's store if there is one."""
    read, damaged, seen = 0, [], set()
    for done, artifact in enumerate(found):
        say(done, len(found))
        stores = {"cache": cache} | ({"remote": beyond} if beyond is not None else {})
        for where, store in stores.items() if artifact.digest not in seen else ():
            path = store.oid_to_path(artifact.digest)
            if store.fs.exists(path):
                read += 1
                if not intact(store.fs.open(path, "rb"), artifact.digest):
                    damaged.append(Damage(artifact.name, where))
                    if not keep:
                        store.fs.remove(path)
        seen.add(artifact.digest)
        if artifact.place is not None and artifact.place.is_file():
            read += 1
            if not intact(artifact.place.open("rb"), artifact.digest):
                damaged.append(Damage(artifact.name, "working tree"))
                if not keep:
                    artifact.place.unlink()
    say(len(found), len(found))
    return read, damaged


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
    with click.progressbar(length=1000, label="reading", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        read, damaged = verify(root, remote, keep, lambda done, of: bar.update(1000 * done // max(1, of) - bar.pos))
    for damage in damaged:
        click.echo(f"{damage.name}: damaged in the {damage.where}")
    if damaged:
        left = "" if keep else "; taken away, so that the next run makes it again"
        raise click.ClickException(f"{len(damaged)} of {read} files are not what dvc.lock says{left}")
    click.echo(f"{read} files are what dvc.lock says")
