"""The graph of a project: stages that differ by their row are one box with their number, and what each kind needs.

The rows of `dvc.yaml` are filled in as DVC does, with those of `grid.yaml` and `params.yaml`; what a stage reads is matched
with what others write.
"""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

SLOT = re.compile(r"\$\{([\w.-]+)\}")
WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 118, 40, 46, 18, 16  # of a box, between boxes, around all; pixels


class Graph(NamedTuple):
    """How many stages each kind has, in the order of `dvc.yaml`, and which kind needs which; `back` says that a kind needs
    one that stands after it, as a round does the pairs of the one before.
    """

    counts: dict[str, int]
    needs: list[tuple[str, str]]

    @property
    def forward(self) -> list[tuple[str, str]]:
        """Those without the ways that go back."""
        place = {kind: k for k, kind in enumerate(self.counts)}
        return [(before, after) for before, after in self.needs if place[before] < place[after]]

    def direct(self) -> list[tuple[str, str]]:
        """The ways forward that no longer one replaces, and the ways back."""
        after: dict[str, set[str]] = {kind: {b for a, b in self.forward if a == kind} for kind in self.counts}

        def reached(kind: str) -> set[str]:
            return set().union(*({one} | reached(one) for one in after[kind]))

        longer = {(a, b) for a in after for b in after[a] if any(b in reached(one) for one in after[a] - {b})}
        return [way for way in self.needs if way not in longer]

    def layers(self) -> dict[str, int]:
        """How many kinds stand one after another before each, at most."""
        found: dict[str, int] = {}
        for kind in self.counts:
            found[kind] = max((found[before] + 1 for before, after in self.forward if after == kind), default=0)
        return found


def graph(pipeline: Mapping[str, Any], rows: Mapping[str, Any]) -> Graph:
    """The graph of the stages of a `dvc.yaml`, whose foreach tables are in `rows`."""
    made: dict[str, str] = {}
    read: list[tuple[str, str]] = []
    counts: dict[str, int] = {}
    for kind, template in pipeline["stages"].items():
        stages = list(expanded(template, rows))
        if not stages:
            continue
        counts[kind] = len(stages)
        for stage in stages:
            made |= {path: kind for path in paths(stage, "outs", "metrics", "plots")}
            read += [(path, kind) for path in paths(stage, "deps")]
    needs = dict.fromkeys((before, kind) for path, kind in read for before in makers(path, made))
    return Graph(counts, [(before, after) for before, after in needs if before != after])


def makers(path: str, made: Mapping[str, str]) -> list[str]:
    """The kinds of stages that write a path, or what lies below or around it."""
    return [kind for out, kind in made.items() if out == path or out.startswith(f"{path}/") or path.startswith(f"{out}/")]


def expanded(template: Mapping[str, Any], rows: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The stages of a template: itself, or one for each row of its table."""
    if "foreach" not in template:
        yield template
        return
    for key, item in rows.get(SLOT.sub(r"\1", template["foreach"]), {}).items():
        yield {name: filled(part, key, item) for name, part in template["do"].items()}


def filled(part: Any, key: str, item: Any) -> Any:
    """A part of a template with a row's values in its slots."""
    if isinstance(part, str):
        return SLOT.sub(lambda slot: str(looked_up(slot.group(1), {"key": key, "item": item})), part)
    if isinstance(part, Mapping):
        return {filled(name, key, item): filled(value, key, item) for name, value in part.items()}
    return [filled(one, key, item) for one in part] if isinstance(part, list) else part


def looked_up(name: str, values: Any) -> Any:
    """The value at a dotted name."""
    for one in name.split("."):
        values = values[one]
    return values


def paths(stage: Mapping[str, Any], *parts: str) -> Iterator[str]:
    """The paths that parts of a stage name, with their options or without."""
    for part in parts:
        for one in stage.get(part, ()):
            yield from [one] if isinstance(one, str) else one


# ---- Pictures.


def label(kind: str, count: int) -> str:
    """A kind with its number, where that is not one."""
    return kind if count == 1 else f"{kind} ({count})"


def mermaid(of: Graph) -> str:
    """The graph as a flowchart of Mermaid."""
    boxes = [f'    {kind}["{label(kind, count)}"]' for kind, count in of.counts.items()]
    forward = set(of.forward)
    ways = [f"    {a} {'-->' if (a, b) in forward else '-.->'} {b}" for a, b in of.direct()]
    return "\n".join(["flowchart LR", *boxes, *ways]) + "\n"


def svg(of: Graph) -> str:
    """The graph as a picture: layer after layer from left to right, ways back dashed below."""
    layers, places = of.layers(), {}
    columns: dict[int, list[str]] = {}
    for kind in of.counts:
        columns.setdefault(layers[kind], []).append(kind)
    tallest = max(map(len, columns.values()))
    for layer, kinds in columns.items():
        top = EDGE + (tallest - len(kinds)) * (HEIGHT + GAP_Y) / 2
        for k, kind in enumerate(kinds):
            places[kind] = EDGE + layer * (WIDTH + GAP_X), top + k * (HEIGHT + GAP_Y)
    width, height = 2 * EDGE + len(columns) * (WIDTH + GAP_X) - GAP_X, 2 * EDGE + tallest * (HEIGHT + GAP_Y) - GAP_Y
    forward = set(of.forward)
    said = "; ".join(f"{a} before {b}" for a, b in of.direct())
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + GAP_Y}" width="{width}"'
            ' role="img" style="max-width: 100%; height: auto"'
            f' font-family="sans-serif" font-size="13"><title>The stages of this project</title><desc>{said}</desc>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
            *(way(*places[a], *places[b], (a, b) in forward, height) for a, b in of.direct()),
            *(box(*places[kind], label(kind, count)) for kind, count in of.counts.items()),
            "</svg>\n",
        ]
    )


def box(x: float, y: float, said: str) -> str:
    """A kind of stages."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef3f8" stroke="#456"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2 + 5:g}" text-anchor="middle" fill="#123">{html.escape(said)}</text>'
    )


def way(x0: float, y0: float, x1: float, y1: float, forward: bool, height: float) -> str:
    """From one kind to the next; back, below all of them."""
    style = 'fill="none" stroke="#555" stroke-width="1.3" marker-end="url(#tip)"'
    if forward:
        a, b, c, d = x0 + WIDTH, y0 + HEIGHT / 2, x1, y1 + HEIGHT / 2
        middle = (a + c) / 2
        return f'<path d="M{a:g} {b:g}C{middle:g} {b:g} {middle:g} {d:g} {c:g} {d:g}" {style}/>'
    a, b, c, d, low = x0 + WIDTH / 2, y0 + HEIGHT, x1 + WIDTH / 2, y1 + HEIGHT, height + GAP_Y / 2
    return f'<path d="M{a:g} {b:g}C{a:g} {low:g} {c:g} {low:g} {c:g} {d:g}" stroke-dasharray="5 3" {style}/>'
