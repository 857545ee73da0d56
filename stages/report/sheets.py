"""Pictures of an album on a page: tables whose cells are small files, with a name for every row and column."""

from collections.abc import Mapping
from html import escape

import numpy as np

from stages.report.albums import COLUMNS, Album, Drawing, Roll
from stages.report.html import wide
from stages.report.mosaics import Shape, enlarged, png

MOST = 2**20  # numbers in the pictures of a sheet: of more models there are fewer pictures each
PAGE, LEAST, TILE = 1100, 24, 56  # pixels: of a sheet that needs no scrolling, and of a picture on it, if it has fewer
BESIDE, FEWEST = 36, 4  # pictures side by side on a page, and in a cell
TIMES, FOLLOWED = 9, 4  # states that are shown of a path, and paths

Cell = tuple[np.ndarray, int, int]  # points, and the rows and columns in which they lie


def sheet(shape: Shape, caption: str, cells: Mapping[tuple[str, str], Cell]) -> str:
    """A table of pictures by the names of their row and column; a place without a picture is empty."""
    rows, columns = (list(dict.fromkeys(key[k] for key in cells)) for k in (0, 1))
    beside = sum(max(cell[2] for (_, column), cell in cells.items() if column == name) for name in columns)
    times = enlarged(shape, beside, PAGE, LEAST, TILE)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row)}</th>'
        + "".join(f"<td>{image(shape, times, f'{column}, {row}', cells.get((row, column)))}</td>" for column in columns)
        + "</tr>\n"
        for row in rows
    )
    content = f"<table><thead><tr><td></td>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return wide(f'<figure class="pictures">{content}<figcaption>{escape(caption)}</figcaption></figure>', caption)


def image(shape: Shape, times: int, said: str, cell: Cell | None) -> str:
    """The pictures of a cell, so many times as large; nothing without any."""
    if cell is None:
        return ""
    points, rows, columns = cell
    height, width = times * rows * (shape[1] + 1), times * columns * (shape[2] + 1)
    source = png(points, shape, rows, columns)
    return f'<img src="{source}" alt="{escape(said.strip(", "))}" width="{width}" height="{height}" decoding="async">'


def fitting(album: Album, cells: int, most: int = COLUMNS) -> int:
    """How many pictures a cell may have so that so many cells are no more than MOST numbers; at least one."""
    return int(np.clip(MOST // (max(1, cells) * album.real.shape[1]), 1, most))


def named(key: tuple[str, int]) -> str:
    """A model's name."""
    return f"{key[0]}, round {key[1]}"


def headed(drawing: Drawing, roll: Roll) -> str:
    """How something was drawn, in how many evaluations of the model that was asked."""
    nfe = drawing.nfe - roll.decoder
    return f"{drawing.solver}, {nfe} evaluation{'s' * (nfe != 1)}"


def best(roll: Roll) -> list[Drawing]:
    """The reference, and what guidance draws besides."""
    return [drawing for drawing in roll.drawings if drawing.role == "reference" or "guidance" in drawing.solver]


# ---- Sheets.


def by_class(album: Album, dataset: str) -> list[str]:
    """Real pictures and those of models that were asked for classes, a row for each class; others in one row."""
    panels = {"test set": album.real}
    for key, roll in album.rolls.items():
        panels |= {f"{named(key)}: {headed(of, roll)}": of.x for of in best(roll) if roll.asked}
    others = {
        f"{named(key)}: {headed(of, roll)}": of.x for key, roll in album.rolls.items() for of in best(roll) if not roll.asked
    }
    parts, asked = [], len(panels) > 1
    if asked:
        columns = fitting(album, len(panels) * len(album.lines), int(np.clip(BESIDE // len(panels), FEWEST, COLUMNS)))
        cells = {
            (f"class {name}", panel): (x[line][:columns], 1, columns)
            for name, line in album.lines.items()
            for panel, x in panels.items()
        }
        said = f"{dataset}: draws by the class that was asked for, from the same x0, beside the test set; seed {album.seed}."
        parts.append(sheet(album.shape, said, cells))
    if others:
        shown = others if asked else {**panels, **others}
        count = fitting(album, len(shown), len(album.real))
        some = slice(None, None, -(-len(album.real) // count))
        cells = {("", panel): (x[some], -(-len(x[some]) // COLUMNS), COLUMNS) for panel, x in shown.items()}
        parts.append(sheet(album.shape, f"{dataset}: draws without a class, from the same x0; seed {album.seed}.", cells))
    return parts


def by_steps(album: Album, dataset: str) -> list[str]:
    """What every model makes of the same x0 by each of its samplers, a row for each of these."""
    drawn = [(headed(of, roll), named(key), of, roll) for key, roll in album.rolls.items() for of in roll.drawings]
    if not drawn:
        return []
    drawn.sort(key=lambda row: ("guidance" in row[2].solver, row[2].nfe - row[3].decoder))
    firsts = album.firsts[: fitting(album, len(drawn), len(album.firsts))]
    cells = {(how, model): (of.x[firsts], 1, len(firsts)) for how, model, of, _ in drawn}
    classes = [str(name) for name in map(album.called, firsts) if name is not None]
    said = f"; who can be asked is asked for {', '.join(classes)}" if classes else ""
    caption = f"{dataset}: from the same x0 in each column of pictures{said}; seed {album.seed}."
    return [sheet(album.shape, caption, cells)]


def by_time(album: Album, dataset: str) -> list[str]:
    """The paths of some x0, and where a step of Euler's from each of their states would end."""
    known = {key: roll.paths for key, roll in album.rolls.items() if roll.paths is not None}
    firsts = [place for place in album.firsts if all(place in paths.places for paths in known.values())]
    firsts = firsts[: fitting(album, 2 * TIMES * len(known), FOLLOWED)]
    if not known or not firsts:
        return []
    cells = {}
    for k, place in enumerate(firsts):
        name = f"x0 {k + 1}" if album.called(place) is None else f"x0 {k + 1} ({album.called(place)})"
        for key, paths in known.items():
            shown, states = chosen(paths.times), paths.x[:, paths.places.index(place)]
            ends = headings(paths.times, states)
            cells[name, named(key)] = (np.concatenate([states[shown], ends[shown]]), 2, len(shown))
    times = next(iter(known.values())).times
    told = ", ".join(f"{t:.2g}" for t in times[chosen(times)])
    caption = (
        f"{dataset}: above, paths at t = {told}; below each state, where a single step of Euler's from there to t = 1 would "
        f"end, which is the same picture all the way where a path is straight. In brackets the class that was asked for, "
        f"where one was; seed {album.seed}."
    )
    return [sheet(album.shape, caption, cells)]


def chosen(times: np.ndarray) -> np.ndarray:
    """The places of at most TIMES times, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, len(times) - 1, min(len(times), TIMES)).round().astype(int))


def headings(times: np.ndarray, states: np.ndarray) -> np.ndarray:
    """`x_t + (1 - t) v(t, x_t)` of states `(times, dim)` that steps of Euler's made, from which v is known; at the end the
    state.
    """
    v = np.diff(states, axis=0) / np.diff(times)[:, None]
    return np.concatenate([states[:-1] + (1 - times[:-1, None]) * v, states[-1:]])
