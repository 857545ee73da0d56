"""Draws that are pictures as one picture: side by side, ten in a row."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rectiflow.files import replacing
from rectiflow.origin import Origin
from rectiflow.trained import Trained
from stages.shared.params import Refused

PICTURES = ".png"
MOST, ACROSS = 100, 10
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


def write_pictures(path: Path, rows: np.ndarray, trained: Trained) -> None:
    """Rows `(n, dim)` in their own units as a PNG, magnified by a whole number."""
    channels, height, width = trained.origin.shape
    low, high = ends(trained)
    bright = np.rint(255 * ((rows - low) / (high - low)).clip(0, 1)).astype(np.uint8)
    tiles = mosaic(bright.reshape(-1, channels, height, width), max(1, WIDE // (ACROSS * (width + 1))))
    picture = pillow(path).fromarray(tiles if channels == 3 else tiles[..., 0])
    with replacing(path) as temporary, temporary.open("wb") as file:
        picture.save(file, "png")


def ends(trained: Trained) -> tuple[Any, Any]:
    """The numbers that are black and white: the first and the last level or token, the least and the greatest that it was
    trained on, or where neither is known -1 and 1 in the model's coordinates, as pictures of data sets are.
    """
    units = trained.origin.units
    if units is not None and units.levels:
        return 0, units.levels - 1
    if trained.origin.vocabulary:
        return 0, np.array(trained.origin.vocabulary) - 1
    if "range" in trained.facts:
        low, high = trained.facts["range"]
        return low, high
    low, high = np.full((2, 1, trained.origin.dim), [[[-1.0]], [[1.0]]])
    return (low, high) if units is None else (units.back(low), units.back(high))


def mosaic(tiles: np.ndarray, times: int) -> np.ndarray:
    """Pictures `(n, channels, height, width)` side by side, `(height, width, channels)`, a pixel in between."""
    n, channels, height, width = tiles.shape
    across = min(n, ACROSS)
    down = -(-n // across)
    room = np.zeros((down * across, channels, height + 1, width + 1), np.uint8)
    room[:n, :, :-1, :-1] = tiles
    sheet = room.reshape(down, across, channels, height + 1, width + 1).transpose(0, 3, 1, 4, 2)
    return sheet.reshape(down * (height + 1), across * (width + 1), channels).repeat(times, 0).repeat(times, 1)
