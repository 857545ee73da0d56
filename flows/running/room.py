"""Room on the disk, and what to say where there is none."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

LEAST = 16  # MiB: Prefect's new database, its journal and DVC's lists
FULL = re.compile(r"No space left on device|disk is full|disk I/O error|Disk quota exceeded")  # the system's words, SQLite's
ADVICE = "make some, then run the same command again: what was finished is kept"


def none(where: Path) -> str:
    """What to say of a folder whose disk has no room for a run to begin; nothing where it has."""
    free = shutil.disk_usage(where).free / 2**20
    if free >= LEAST:
        return ""
    return f"no room on the disk of {where.resolve()}, {free:.1f} MiB where a run needs {LEAST} to begin; {ADVICE}"


def lacked(said: Iterable[str | None]) -> str:
    """What to add to a failure whose messages tell of a full disk; nothing otherwise."""
    return f"; no room was left on the disk: {ADVICE}" if any(FULL.search(text or "") for text in said) else ""
