"""Parallel coordinates: an axis for every parameter and measure, a line for every run, told by hover and by keyboard."""

from collections.abc import Iterator, Sequence
from html import escape
from math import isfinite, log10
from textwrap import wrap
from typing import NamedTuple

from stages.report.figures import COLOURS
from stages.report.html import wide

GAP, MARGIN, TOP, HEIGHT = 150, 80, 50, 240  # of a drawing
TICKS = 6  # values that are written at an axis; of more, the ends are
WIDE = 30.0  # a ratio of the ends from which positive values lie on a scale of logarithms
DASHES = ("", "6 3", "2 3")


class Axis(NamedTuple):
    """A title, and a value for every run: numbers, or words; empty for a run that has none."""

    title: str
    values: Sequence[str]

    def numbers(self) -> list[float]:
        """The values as numbers; none where some of them are not."""
        try:
            found = [float(value) for value in self.values if value]
        except ValueError:
            return []
        return found if all(map(isfinite, found)) else []

    def places(self) -> dict[str, float]:
        """Where the values lie, from 0 at the bottom to 1; a single one in the middle."""
        found = list(dict.fromkeys(value for value in self.values if value))
        numbers = self.numbers()
        if not numbers:
            return {value: k / (len(found) - 1) if len(found) > 1 else 0.5 for k, value in enumerate(found)}
        low, high = min(numbers), max(numbers)
        scale = log10 if low > 0 and high / low >= WIDE else float
        width = scale(high) - scale(low)
        return {value: (scale(float(value)) - scale(low)) / width if width else 0.5 for value in found}

    def ticks(self) -> dict[str, float]:
        """The values that are written, and where."""
        places = self.places()
        ends = sorted(places, key=lambda value: places[value])
        return places if len(places) <= TICKS else {value: places[value] for value in (ends[0], ends[-1])}


def parallel(title: str, runs: Sequence[str], axes: Sequence[Axis]) -> str:
    """A figure with a line for each run. Titles and values are plain text."""
    width, height = 2 * MARGIN + GAP * (len(axes) - 1), TOP + HEIGHT + 20
    drawn = [*lines(runs, axes), *(part for k, axis in enumerate(axes) for part in drawn_axis(k, axis))]
    svg = (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg>"
    )
    how = "A line is a run: point at it, or go from one to the next by arrow keys."
    return (
        f'<figure class="lines">{wide(svg, title)}<figcaption>{escape(title)}. {how} <output aria-live="polite"></output>'
        "</figcaption></figure>"
    )


def drawn_axis(k: int, axis: Axis) -> Iterator[str]:
    """A vertical line with its title and its values."""
    x = MARGIN + GAP * k
    yield f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + HEIGHT}" stroke="#8a93a0"/>'
    titles = wrap(axis.title.replace(".", ". ").replace("_", "_ "), 22)
    for row, text in enumerate(titles[:3]):
        said = text.replace(". ", ".").replace("_ ", "_")
        yield f'<text x="{x}" y="{TOP - 12 - 13 * (len(titles[:3]) - 1 - row)}" text-anchor="middle">{escape(said)}</text>'
    for value, place in axis.ticks().items():
        said = value if len(value) < 18 else f"{value[:16]}…"
        yield f'<text x="{x + 5}" y="{height_of(place) + 4:.1f}" fill="#545d6b">{escape(said)}</text>'


def height_of(place: float) -> float:
    return TOP + HEIGHT * (1 - place)


def lines(runs: Sequence[str], axes: Sequence[Axis]) -> Iterator[str]:
    """The runs, each with its name and values for those who do not see the lines; broken where a value is missing."""
    places = [axis.places() for axis in axes]
    for k, run in enumerate(runs):
        said = ", ".join(f"{axis.title} {axis.values[k]}" for axis in axes if axis.values[k])
        path, pen = [], "M"
        for j, axis in enumerate(axes):
            if not (value := axis.values[k]):
                pen = "M"
                continue
            path.append(f"{pen}{MARGIN + GAP * j} {height_of(places[j][value]):.1f}")
            pen = "L"
        style = f'stroke="{COLOURS[k % len(COLOURS)]}"'
        if dash := DASHES[k // len(COLOURS) % len(DASHES)]:
            style += f' stroke-dasharray="{dash}"'
        label = escape(f"{run}: {said}")
        yield f'<g class="run" role="img" tabindex="0" aria-label="{label}"><path {style} d="{" ".join(path)}"/></g>'
