"""Image files as rows of levels: a folder that has one for each class, or a column of a Parquet file."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rectiflow.pictures import Pictures
from stages.shared.params import PARAMS, Refused
from stages.shared.tables import CLASSES, field, opened

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}  # of 8 bits a channel or fewer: as what they are read
DAMAGED = (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error)  # what decoders raise
BATCH = 256  # encoded images that are read at a time

Images = Callable[[], Iterator[tuple[str, Any]]]  # their names, and files or bytes


def folder_pictures(folder: Path, key: str) -> Pictures:
    """The images of a folder's folders, each a class, by name; or those of a folder itself, which have no classes.

    Raises Refused where there are none, or one class, or more than CLASSES.
    """
    if not folder.is_dir():
        raise Refused(f"{PARAMS}: {key}.columns is missing: which one of {folder} has the images?")
    if (folder / "target.parquet").exists():
        raise Refused(f"{PARAMS}: {key}.columns is missing: which one of {folder / 'target.parquet'} has the images?")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(inside) > CLASSES:
        raise Refused(f"{PARAMS}: {key}.path: {folder} has {len(inside)} folders; {CLASSES} classes are the most")
    found, by_class = _images(folder), {path.name: _images(path) for path in inside}
    classes = tuple(name for name, files in by_class.items() if files)
    if found and classes:
        raise Refused(f"{PARAMS}: {key}.path: {folder} has images beside folders of images; the classes are the folders")
    if len(classes) == 1:
        raise Refused(
            f"{PARAMS}: {key}.path: {folder} has one class, {classes[0]!r}; there is nothing to tell: "
            f"{folder / classes[0]} has the same images without a class"
        )
    counts, files = [len(by_class[name]) for name in classes], [file for name in classes for file in by_class[name]]
    files = found or files
    if len(files) < 2:
        what = f"{len(files)} image{'s' * (len(files) != 1)}"
        raise Refused(f"{PARAMS}: {key}.path: {folder} has {what}, in CLASS/*.png or *.png ({', '.join(SUFFIXES)})")
    label = np.repeat(np.arange(len(classes), dtype=np.int32), counts) if classes else None
    return _pictures(len(files), lambda: ((str(file), file) for file in files), classes, label)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def column_pictures(path: Path, name: str, key: str) -> Pictures:
    """The images of a column of encoded ones: bytes, or structs with `bytes`, as data sets of Hugging Face have them.

    Raises Refused for another column, and for rows without bytes.
    """
    with opened(path) as file:
        kind, rows = field(file.schema_arrow, name, f"{key}.columns").type, file.metadata.num_rows
    if not (_encoded(kind) or (pa.types.is_struct(kind) and "bytes" in kind.names and _encoded(kind["bytes"].type))):
        raise Refused(f"{path}: column {name!r} holds {kind}, not encoded images: bytes, or structs with `bytes`")
    if rows < 2:
        raise Refused(f"{path}: has {rows} row{'s' * (rows != 1)}; a distribution needs more")

    def images() -> Iterator[tuple[str, bytes]]:
        at = 0
        with opened(path) as file:
            for batch in file.iter_batches(BATCH, columns=[name]):
                column = batch[name].field("bytes") if pa.types.is_struct(kind) else batch[name]
                for row, value in enumerate(column, at):
                    if not value.is_valid:
                        raise Refused(f"{path}: column {name!r} has no bytes in row {row}")
                    yield f"{path}: column {name!r}, row {row}", value.as_py()
                at += len(batch)

    return _pictures(rows, images)


def _encoded(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _pictures(rows: int, images: Images, classes: tuple[str, ...] = (), label: np.ndarray | None = None) -> Pictures:
    """So many images, the first of which is decoded at once: the others are of its shape."""
    first, image = next(images())
    shape = decoded(first, image).shape

    def read() -> np.ndarray:
        levels = np.empty((rows, *shape), np.uint8)
        for (name, image), row in zip(images(), levels, strict=True):
            found = decoded(name, image)
            if found.shape != shape:
                raise Refused(f"{name}: is {_said(found.shape)}, and {first} {_said(shape)}; all should be of one size")
            row[:] = found
        return levels.reshape(rows, -1)

    return Pictures(shape, rows, read, classes, label)


def _said(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]} pixels, {'grey' if shape[0] == 1 else 'coloured'}"


def decoded(name: str, image: Path | bytes) -> np.ndarray:
    """The levels of an image, `(channels, height, width)`: one channel for grey ones, else red, green and blue.

    Raises Refused for a damaged file, for more than 8 bits a channel, and for other channels.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise Refused("images need pillow: pip install 'rectiflow[images]'") from error
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            mode, levels = opened.mode, np.asarray(opened.convert(MODES.get(opened.mode, "L")))
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise Refused(f"{name}: no image, or a damaged one: {error}") from error
    if mode not in MODES:
        raise Refused(f"{name}: its pixels are {mode}, of which none are read; convert it to one of {', '.join(MODES)}")
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
