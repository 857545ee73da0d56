"""DVC's list of claims: which process reads or writes which files (`.dvc/tmp/rwlock`, JSON).

DVC writes the list in place. A process that is killed meanwhile leaves half a list, and every later one refuses to go on.
After `keep_whole()` this process writes it to another name and moves that into place, whichever part of DVC asks for it.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import dvc.rwlock
import psutil
from dvc.rwlock import RWLOCK_FILE, RWLockFileCorruptedError

Claims = dict[str, Any]  # {"write": {path: holder}, "read": {path: [holder, ...]}}, a holder being {"pid", "cmd"}

SLACK = 10.0  # seconds that the clocks of processes and of the disk may be apart
DVCS_OWN = dvc.rwlock._edit_rwlock


class Whole:
    """DVC's file system, of which `_edit_rwlock` uses two methods; what it writes appears whole or not at all."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def join(self, *parts: str) -> str:
        return self.files.join(*parts)

    def open(self, path: str, mode: str = "r", **options: Any) -> AbstractContextManager[Any]:
        return self.files.open(path, mode, **options) if mode == "r" else written(Path(path))


@contextmanager
def written(path: Path) -> Iterator[StringIO]:
    """Text that becomes a file at the end of the block. A kill leaves the old file or the new one.

    The disk is not waited for: the list tells of processes, and after a power failure there are none.
    """
    content = StringIO()
    yield content
    temporary = path.with_name(f".{path.name}.tmp")  # one at a time: the list has a lock
    temporary.write_text(content.getvalue(), "utf-8")
    os.replace(temporary, path)


def edit(folder: str, files: Any, hardlink: bool) -> AbstractContextManager[Claims]:
    """The list under its lock, to be changed in the block. Raises LockError, RWLockFileCorruptedError."""
    return DVCS_OWN(folder, Whole(files), hardlink)


def keep_whole() -> None:
    """Let all of DVC in this process write the list so."""
    dvc.rwlock._edit_rwlock = edit


def mend(folder: str, files: Any, hardlink: bool) -> None:
    """Remove what killed processes left: half a list, or claims that DVC takes for a living process's of the same number."""
    path = Path(folder, RWLOCK_FILE)
    try:
        last = path.stat().st_mtime
        with edit(folder, files, hardlink) as claims:
            living = alive(claims, last)
            kept = {file: holder for file, holder in claims["write"].items() if holder["pid"] in living}
            read = {file: [one for one in holders if one["pid"] in living] for file, holders in claims["read"].items()}
            claims.update(write=kept, read={file: holders for file, holders in read.items() if holders})
    except FileNotFoundError:
        pass
    except RWLockFileCorruptedError:
        path.unlink()


def alive(claims: Claims, last: float) -> set[int]:
    """The processes of a list last written at a time that may have made their claims: those that had started by then."""
    holders = [[holder] for holder in claims["write"].values()] + list(claims["read"].values())
    found = set()
    for pid in {holder["pid"] for some in holders for holder in some}:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE and process.create_time() < last + SLACK:
                found.add(pid)
        except psutil.NoSuchProcess:
            pass
    return found
