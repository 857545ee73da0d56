"""Texts, JSON and copies, written whole (see `rectiflow.files`), and how numbers are rounded in them."""

import json
import shutil
from pathlib import Path
from typing import Any

from rectiflow.files import replacing, write_bytes


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def rounded(value: float) -> float:
    """Ten significant digits: what the seeds can never resolve stays out of files and their differences."""
    return float(f"{value:.10g}")
