"""Whole files: a write goes to a temporary name and is moved into place, so a file is either the old one or the new one."""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows what a killed writer leaves stays there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path, no other writer's, that becomes `path` at the end of the block, or goes away if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as held:
            if not _locked(held):
                held.close()  # Windows moves no open file
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed writers of a file left: the lock that a living one has on its own ends with its process."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError), open(left, "rb") as file:
            if _locked(file):
                left.unlink()


def _locked(file: BufferedIOBase) -> bool:
    """Lock an open file until it is closed; False where another has it, or the system has no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
