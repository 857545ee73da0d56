"""Pictures side by side as files: points in [-1, 1] as tiles, 8 bits a channel. Same points, same bytes."""

import base64
import io

import numpy as np
from PIL import Image

Shape = tuple[int, ...]  # channels, height, width


def mosaic(points: np.ndarray, shape: Shape, rows: int, columns: int) -> np.ndarray:
    """The first points as tiles a pixel apart, `(height, width)` in grey or `(height, width, 3)` from 0 to 1; blank where
    there are too few.
    """
    channels, height, width = shape
    blank = np.full((rows * columns, points.shape[1]), -1.0)
    tiles = np.concatenate([points, blank])[: rows * columns].reshape(rows, columns, channels, height, width)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-1)
    picture = tiles.transpose(0, 3, 1, 4, 2).reshape(rows * (height + 1), columns * (width + 1), channels)
    return (picture + 1) / 2 if channels == 3 else picture[..., 0]


def png(points: np.ndarray, shape: Shape, rows: int, columns: int) -> str:
    """The same as a data URI; grey pictures are dark on white."""
    tiles = mosaic(np.clip(points, -1, 1), shape, rows, columns)
    shares = tiles if tiles.ndim == 3 else (1 - tiles) / 2
    buffer = io.BytesIO()
    Image.fromarray(np.round(255 * shares).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def enlarged(shape: Shape, beside: int, page: int, least: int, most: int) -> int:
    """How many times as large as they are so many tiles side by side are shown on a page of so many pixels: whole times, by
    which a tile is of `least` to `most` pixels where that is once or more.
    """
    _, height, width = shape
    low, high = (max(1, tile // max(height, width)) for tile in (least, most))
    return max(low, min(high, page // (beside * (width + 1))))
