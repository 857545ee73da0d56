"""A fresh clone for one experiment: the user's working tree is never touched, and nothing is left behind.

A workspace holds a lock on a file for as long as its process lives. What a killed process left has nobody at its lock, and
goes when the next workspace is made.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from dvc.config import Config
from dvc.repo import Repo

from flows.revisions.commits import resolve
from flows.running.home import HOME
from stages.shared.params import Refused

PLACE = HOME / "workspaces"


def command(where: Path, *words: str) -> str:
    """What a command prints. Raises Refused with its last words."""
    done = subprocess.run(words, cwd=where, env=environment(where), capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        errors = [line for line in said if line.lower().startswith(("error", "fatal"))]
        raise Refused(" ".join(errors[0].removeprefix("error: ").split()) if errors else said[-1])
    return done.stdout


def environment(project: Path) -> dict[str, str]:
    """This interpreter first on the path; and the project's own library, where the installed one is the working tree's."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    library = os.pathsep.join(filter(None, [str(project.resolve() / "src"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PATH": path, "PYTHONPATH": library, "DVC_NO_ANALYTICS": "1"}


def dvc(where: Path, *words: str) -> str:
    return command(where, sys.executable, "-m", "dvc", *words)


def sweep(place: Path = PLACE) -> list[str]:
    """Remove the workspaces whose process is gone, and say which."""
    gone = []
    for lock in place.glob("*.lock"):
        try:
            with open(lock) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()
        except (BlockingIOError, FileNotFoundError):  # it is in use, or another removed it meanwhile
            continue
        gone.append(lock.stem)
    return gone


@contextmanager
def workspace(root: Path, revision: str) -> Iterator[Path]:
    """A clone of the project at a revision, with its cache and its results of that revision; removed at the end.

    Raises Refused if there is no such revision.
    """
    place = root.resolve() / PLACE
    place.mkdir(parents=True, exist_ok=True)
    sweep(place)
    where = place / f"run-{uuid4().hex[:12]}"
    with open(where.with_suffix(".new"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(lock.name, where.with_suffix(".lock"))  # another's sweep never finds it without its holder
        try:
            yield populate(root, where, revision)
        finally:
            shutil.rmtree(where, ignore_errors=True)
            where.with_suffix(".lock").unlink(missing_ok=True)


def populate(root: Path, where: Path, revision: str) -> Path:
    """Clone, check out, share the cache and bring the revision's results; the project's folder in the clone."""
    commit = resolve(revision)
    top = Path(command(root, "git", "rev-parse", "--show-toplevel").strip())
    command(root, "git", "clone", "--quiet", "--no-checkout", str(top), str(where))
    command(where, "git", "checkout", "--quiet", "--detach", commit)
    for key, unknown in (("user.name", "rectiflow"), ("user.email", "rectiflow@localhost")):  # experiments are commits
        command(where, "git", "config", key, command(root, "git", "config", "--default", unknown, "--get", key).strip())
    project = where / root.resolve().relative_to(top.resolve())
    with Repo(str(root)) as repo:
        cache = repo.cache.local_cache_dir
    with Config(str(project / Repo.DVC_DIR)).edit("local") as config:
        config["cache"] = {"dir": cache}
        # DVC's notes on files (which had which hash) would otherwise stay behind in a place of the machine.
        config["core"] = {"site_cache_dir": str(where / ".git/dvc")}
    with Repo(str(project)) as repo:
        repo.checkout(allow_missing=True)
    return project
