"""Draws that are pictures as one picture: side by side, ten in a row."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rectiflow.files import replacing
from rectiflow.origin import Origin
from rectiflow.units import Units
from stages.shared.params import Refused

PICTURES = ".png"
MOST, ACROSS = 100, 10
TAILS = (0.5, 99.5)  # per cent: numbers that may be anything are shown from one to the other
WIDE = 900  # pixels of the whole, up to which it is magnified


def drawable(path: Path, rows: int, origin: Origin) -> None:
    """Raise Refused for rows that are no pictures or too many, and where pillow is missing."""
    if len(origin.shape) != 3 or origin.shape[0] not in (1, 3):
        sides = " x ".join(map(str, origin.shape))
        raise Refused(f"{path}: a row of shape {sides} is no picture of 1 or 3 channels; .parquet holds any row")
    if rows > MOST:
        raise Refused(f"{path}: {rows} pictures; it holds {MOST} at most (-n {MOST})")
    pillow(path)


def pillow(path: Path) -> Any:
    """What writes pictures."""
    try:
        return import_module("PIL.Image")
    except ModuleNotFoundError as error:
        raise Refused(f"{path}: pictures need pillow: pip install pillow") from error


def write_pictures(path: Path, rows: np.ndarray, origin: Origin) -> None:
    """Rows `(n, dim)` in their own units as a PNG, whole levels as they are, magnified by a whole number."""
    channels, height, width = origin.shape
    levels = brightness(rows, origin.units).reshape(-1, channels, height, width)
    tiles = mosaic(levels, max(1, WIDE // (ACROSS * (width + 1))))
    picture = pillow(path).fromarray(tiles if channels == 3 else tiles[..., 0])
    with replacing(path) as temporary, temporary.open("wb") as file:
        picture.save(file, "png")


def brightness(rows: np.ndarray, units: Units | None) -> np.ndarray:
    """Numbers as bytes: those of levels by their place among them, others by theirs between the tails of all."""
    low, high = (0, units.levels - 1) if units and units.levels else np.percentile(rows, TAILS)
    share = (rows - low) / max(high - low, np.finfo(np.float32).tiny)
    found: np.ndarray = np.rint(255 * share.clip(0, 1)).astype(np.uint8)
    return found


def mosaic(tiles: np.ndarray, times: int) -> np.ndarray:
    """Pictures `(n, channels, height, width)` side by side, `(height, width, channels)`, a pixel in between."""
    n, channels, height, width = tiles.shape
    across = min(n, ACROSS)
    down = -(-n // across)
    room = np.zeros((down * across, channels, height + 1, width + 1), np.uint8)
    room[:n, :, :-1, :-1] = tiles
    sheet = room.reshape(down, across, channels, height + 1, width + 1).transpose(0, 3, 1, 4, 2)
    return sheet.reshape(down * (height + 1), across * (width + 1), channels).repeat(times, 0).repeat(times, 1)
