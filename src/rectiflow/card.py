"""Model cards: what is known of an exported model, as a page of Markdown.

A card holds what it is given. What is not given is not there: no heading stands without content.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A metric's mean over seeds, half the width of its 95 % interval, the number of seeds, and the metric's floor, as far
    as they are known.
    """

    metric: str
    mean: float
    half_width: float | None = None
    seeds: int | None = None
    floor: float | None = None

    def cells(self) -> list[str]:
        """A row of the card's table."""
        mean = f"{self.mean:.4g}" if self.half_width is None else f"{self.mean:.4g} ± {self.half_width:.2g}"
        return [self.metric, mean, _known(self.seeds, "d"), _known(self.floor, ".4g")]


@dataclass(frozen=True)
class File:
    """A file's name, what it has, and how far what it computes was measured to be from the model."""

    name: str
    content: str
    difference: float | None = None

    def cells(self) -> list[str]:
        """A row of the card's table."""
        return [f"`{self.name}`", self.content, _known(self.difference, ".2g")]


@dataclass(frozen=True)
class Data:
    """Columns, the shape of a row, units and source of a data set, and the classes and numbers that a model may be asked
    for, as far as they are known.
    """

    columns: Sequence[str] = ()
    shape: Sequence[int] = ()
    units: str | None = None
    source: str | None = None
    classes: Sequence[str] = ()
    condition: str | None = None

    def cells(self) -> dict[str, str | None]:
        """What is known, by name."""
        columns, shape = ", ".join(f"`{name}`" for name in self.columns), " x ".join(map(str, self.shape))
        classes = ", ".join(f"`{name}`" for name in self.classes)
        known = {"columns": columns, "shape of a row": shape, "units": self.units, "source (x0)": self.source}
        return {**known, "classes": classes, "condition": self.condition}


def card(
    title: str,
    *,
    what: Mapping[str, str] | None = None,
    data: Data | None = None,
    numbers: Sequence[Number] = (),
    files: Sequence[File] = (),
    params: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
    example: str | None = None,
) -> str:
    """The card of a model: `what` it is by name (model, objective, data set, path, sampler, evaluations, ...), its data, its
    numbers, its files, the row of `params` that it was trained by, and an `example` of how to load it.
    """
    facts = {**(what or {}), "revision": revision, "licence": licence}
    sections = {
        "": _pairs(facts),
        "Data": _pairs(data.cells() if data else {}),
        "Numbers": _table(["metric", "mean ± 95 %", "seeds", "floor"], [number.cells() for number in numbers]),
        "Files": _table(["file", "content", "largest difference from the model"], [file.cells() for file in files]),
        "Parameters": _code("yaml", params),
        "Load": _code("python", example),
    }
    found = [f"# {title}"]
    for heading, body in sections.items():
        if body:
            found += [f"## {heading}", body] if heading else [body]
    return "\n\n".join(found) + "\n"


def _known(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _pairs(known: Mapping[str, str | None]) -> str:
    """A table of what has a value."""
    return _table(["", ""], [[name, value] for name, value in known.items() if value])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that no row has anything in; nothing without rows."""
    kept = [k for k in range(len(head)) if any(row[k] for row in rows)]
    if not kept:
        return ""
    lines = [[head[k] for k in kept], ["---"] * len(kept), *([_cell(row[k]) for k in kept] for row in rows)]
    return "\n".join(_line(line) for line in lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Text that neither ends its cell nor its row."""
    return " ".join(text.replace("|", "\\|").split())


def _code(language: str, text: str | None) -> str:
    """A block of code, behind a fence longer than any in it; nothing without text."""
    if not text or not text.strip():
        return ""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.strip()}\n{fence}"
