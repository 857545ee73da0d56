"""A row of `tables` as a data set: a user's Parquet files, or a folder of images."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from rectiflow.dataset import Conditions, Dataset, Empirical, Labels
from rectiflow.datasets import outlined, outlined_pictures, pictured, tokens
from rectiflow.pictures import Pictures
from rectiflow.tabular import conditions, fits, table  # fmt: skip
from rectiflow.units import Scaled
from stages.shared.images import column_pictures, folder_pictures
from stages.shared.params import PARAMS, Refused, composed, finish
from stages.shared.splits import Sizes
from stages.shared.tables import Numbers, opened, read_labels, read_marks, read_numbers, read_words


class Table(Sizes):
    """A user's Parquet file, or a folder with `target.parquet` and `source.parquet`: the columns of numbers, or with
    `images` the one of encoded images; without a column it is a folder of image files, one folder a class. In place of
    columns of numbers there may be `tokens`, columns of strings, integers or booleans, each of which has few values. The
    column of classes, the one that marks outliers, and those of numbers that a model may be told with a row, if any.
    """

    path: str
    columns: list[str] = Field([], min_length=1)
    images: bool = False
    tokens: list[str] = Field([], min_length=1)
    vocabulary: int | None = None
    label: str | None = None
    outlier: str | None = None
    condition: list[str] = Field([], min_length=1)

    @property
    def folder(self) -> bool:
        """Whether it is a folder of image files."""
        return self.images and not self.columns


def parse_table(row: Any, key: str) -> tuple[Table, dict[str, Any]]:
    """A row of `tables`: the file and its rows, and how to scale it."""
    given = row if isinstance(row, Mapping) else {}
    images, words = given.get("images") is True, "tokens" in given
    found, options = composed(Table, pictured if images else tokens if words else table, row, key)
    for name in ("images", "columns", "outlier"):
        if words and name in given:
            raise Refused(f"{PARAMS}: {key}.{name}: {given[name]!r} cannot stand beside tokens; leave one of them out")
    if not words and found.vocabulary is not None:
        raise Refused(
            f"{PARAMS}: {key}.vocabulary: {found.vocabulary} is that of tokens; name their columns, or leave it out"
        )
    if not images and not words and not found.columns:
        raise Refused(
            f"{PARAMS}: {key}.columns is missing: name those that have the numbers, or `tokens`, or say `images: true`"
        )
    if images and len(found.columns) > 1:
        raise Refused(f"{PARAMS}: {key}.columns: {found.columns} should be the one column that has the images")
    named = [("label", found.label), ("outlier", found.outlier), *(("condition", name) for name in found.condition)]
    for place, (name, column) in enumerate(named):
        if column is not None and found.folder:
            raise Refused(f"{PARAMS}: {key}.{name}: {column!r}: a folder of images has no columns; its folders are classes")
        for part in ("columns", "tokens"):
            if column in getattr(found, part):
                raise Refused(f"{PARAMS}: {key}.{name}: {column!r} is one of {part}; it is no coordinate")
        if name == "condition" and (name, column) in named[:place]:
            raise Refused(f"{PARAMS}: {key}.{name}: {column!r} is there twice")
    return found, options


def paths(table: Table, key: str) -> tuple[Path, Path | None]:
    """The target's file and, if the path is a folder with two files, the source's; of a folder of images, itself."""
    path = Path(table.path)
    if not path.exists():
        raise Refused(f"{PARAMS}: {key}.path: {table.path!r} does not exist")
    if not path.is_dir() or table.folder:
        return path, None
    source = path / "source.parquet"
    return path / "target.parquet", source if source.exists() else None


class Columns(NamedTuple):
    """What a row of `tables` names: the coordinates of both sides, which are read later, and what comes with them."""

    target: Numbers | Pictures
    source: Numbers | Pictures | None
    labels: Labels | None
    marked: Tensor | None


def read_columns(table: Table, key: str) -> Columns:
    """The files and columns of a table. Raises Refused where they are not what they should be."""
    files = paths(table, key)
    labels = None if table.label is None else read_labels(*files, table.label, key)
    marked = None if table.outlier is None else read_marks(files[0], table.outlier, key)
    if labels is not None and marked is not None:
        labels = kept_labels(labels, ~marked, f"{key}.label: {table.label!r}")
    return Columns(*read_sides(table, files, key), labels, marked)


def read_sides(
    table: Table, files: tuple[Path, Path | None], key: str
) -> tuple[Numbers | Pictures, Numbers | Pictures | None]:
    """The coordinates of both files, which are of one width, and images of one shape."""

    def side(path: Path) -> Numbers | Pictures:
        if table.folder:
            return folder_pictures(path, key)
        if table.images:
            return column_pictures(path, table.columns[0], key)
        return read_numbers(path, table.columns, f"{key}.columns")

    target, source = side(files[0]), side(files[1]) if files[1] else None
    if source and _axes(source) != _axes(target):
        raise Refused(f"{files[0].parent}: source.parquet has {_axes(source)} dimensions, target.parquet {_axes(target)}")
    return target, source


def _axes(side: Numbers | Pictures) -> str:
    return " x ".join(map(str, side.shape if isinstance(side, Pictures) else side.shape[1:]))


def build_tokens(found: Table, options: Mapping[str, Any], key: str) -> Dataset:
    """A table of tokens."""
    path, source = paths(found, key)
    if source is not None:
        raise Refused(f"{PARAMS}: {key}.path: {found.path!r} has a source.parquet; the source of tokens is uniform")
    columns = [read_words(path, name, f"{key}.tokens", found.vocabulary) for name in found.tokens]
    words, rows = zip(*columns, strict=True)
    labels = None if found.label is None else read_labels(path, None, found.label, key)
    given = {"target": Empirical(torch.stack(rows, 1)), "vocabulary": tuple(map(len, words)), "labels": labels}
    return finish(tokens, options, key, words=words, **given)


def build_table(row: Any, key: str) -> tuple[Table, Dataset]:
    """A row of `tables` as numbers of rows and the data set."""
    found, options = parse_table(row, key)
    if found.tokens:
        return found, replace(build_tokens(found, options, key), condition=told(found, None, key))
    columns = read_columns(found, key)
    dataset = finish(pictured if found.images else table, options, key, **columns._asdict())
    return found, replace(dataset, condition=told(found, columns.marked, key))


def told(found: Table, marked: Tensor | None, key: str) -> Conditions | None:
    """The numbers that come with the rows that are not marked, if any."""
    if not found.condition:
        return None
    target, source = condition_columns(found, key)
    numbers = target[:, 0 : target.shape[1]]
    kept = numbers if marked is None else numbers[~marked]
    return finish(conditions, {"names": target.single_names(), "target": kept, "source": source}, key)


def outline_table(row: Any, key: str) -> tuple[Table, Dataset]:
    """The same before numbers and images are read: they are zeros. Raises Refused for what is wrong with all else."""
    found, options = parse_table(row, key)
    if found.tokens:  # the vocabulary is what their columns have
        return build_table(row, key)
    target, source, labels, marked = read_columns(found, key)
    if isinstance(target, Pictures):
        dataset = finish(outlined_pictures, {"found": target, "alpha": options["alpha"]}, key)
        rows, dim = target.rows, target.dim
    else:
        rows, dim = target.shape
        finish(fits, {"shape": options["shape"], "dim": dim}, key)
        dataset = outlined(tuple(options["shape"] or [dim]), rows)
    conditioned, outliers = None, 0 if marked is None else int(marked.sum())
    if found.condition:
        names = condition_columns(found, key)[0].single_names()
        k = len(names)
        conditioned = Conditions(tuple(names), Scaled([0.0] * k, [1.0] * k), Empirical.unread(rows - outliers, k).rows)
    return found, replace(
        dataset,
        source=dataset.source if source is None else Empirical.unread(2, dim),
        target=Empirical.unread(rows - outliers, dim),
        labels=labels or dataset.labels,
        outliers=Empirical.unread(outliers, dim) if outliers else None,
        condition=conditioned,
    )


def condition_columns(table: Table, key: str) -> tuple[Numbers, Numbers | None]:
    """The numbers that come with the target's rows and, if its file has all these columns, with the source's."""
    path, source = paths(table, key)
    columns = [path]
    if source is not None:
        with opened(source) as file:
            columns += [source] if set(table.condition) <= set(file.schema_arrow.names) else []
    target, *beside = [read_numbers(one, table.condition, f"{key}.condition") for one in columns]
    return target, beside[0] if beside else None


def kept_labels(labels: Labels, kept: Tensor, key: str) -> Labels:
    """The classes of the rows that are kept. Raises Refused where these have one class, or a source another."""
    present, place = labels.target[kept].unique(return_inverse=True)
    classes = tuple(labels.classes[int(k)] for k in present)
    if len(classes) < 2:
        raise Refused(f"{PARAMS}: {key} is {classes[0]!r} in all rows that are no outliers; there is nothing to tell")
    if labels.source is not None:
        raise Refused(f"{PARAMS}: {key}: a source with classes of its own cannot stand beside rows that are outliers")
    return Labels(classes, place.int())
