"""Figures of tokens: cells of a board, pictures, or the rows that are drawn most, and all of them on their way."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report.figures import COLOURS, GREY, content, plt, uri
from stages.report.html import figure
from stages.report.sheets import Cell, chosen, sheet
from stages.report.token_albums import HIDDEN, TokenAlbum, TokenRoll, Way, shades

COLUMNS, LINES = 8, 4  # pictures side by side, and lines of them
FOLLOWED = 3  # rows whose way is shown in full
COMMONEST = 16  # rows whose shares are shown
SIDE = 1.15  # inches of a board on its way
UNKNOWN = np.array([-0.35, 0.1, 0.75])  # the colour of a token that is hidden, in [-1, 1]


def draws(album: TokenAlbum, dataset: str) -> list[str]:
    """What the models drew, beside the test set: pictures, boards, or the shares of the commonest rows."""
    if album.picture:
        shown = {"test set": album.test} | {f"{name}: {how(roll)}": roll.x for name, roll in album.rolls.items()}
        made = {("", name): (coloured(x[: LINES * COLUMNS], album), LINES, COLUMNS) for name, x in shown.items()}
        return [sheet(colours(album), f"{dataset}: the test set and draws of every model; seed {album.seed}.", made)]
    if album.plane:
        caption = f"{dataset}: how often each cell comes, in the test set and in the draws of models; seed {album.seed}."
        return [figure(uri(boards(album), "png"), caption)]
    caption = f"{dataset}: the share of the commonest rows of the test set and of all others together; seed {album.seed}."
    return [figure(uri(histograms(album), "svg"), caption)]


def how(roll: TokenRoll) -> str:
    return f"{roll.solver}, {roll.nfe} evaluation{'s' * (roll.nfe != 1)}"


def ways(album: TokenAlbum, dataset: str) -> list[str]:
    """Rows on their way to the data: a line for each model, from left to right."""
    if not album.rolls:
        return []
    if album.plane:
        caption = (
            f"{dataset}: rows on their way, at the times above. Of a row whose other token is hidden the one that is known "
            f"is a tick at the edge; seed {album.seed}."
        )
        return [figure(uri(strip(album), "png"), caption)]
    if album.picture:
        caption = f"{dataset}: a picture on its way, hidden tokens in blue, from left to right; seed {album.seed}."
        return [sheet(colours(album), caption, followed(album))]
    caption = (
        f"{dataset}: rows on their way, a line each, a column for each token: grey where it is hidden; seed {album.seed}."
    )
    return [figure(uri(strings(album), "png"), caption)]


def board(album: TokenAlbum) -> bytes:
    """One picture of a data set of tokens as a PNG file: its rows on their way, or what was drawn."""
    return content(strip(album) if album.plane else strings(album), "png")


# ---- Boards.


def cells(x: np.ndarray, album: TokenAlbum) -> np.ndarray:
    """How often each cell of a board comes, `(rows, columns)`: the second token runs upwards."""
    first, second = album.about.vocabulary
    return np.histogram2d(x[:, 0], x[:, 1], bins=(first, second), range=((0, first), (0, second)))[0].T


def boards(album: TokenAlbum) -> Figure:
    """The test set and the draws of every model."""
    shown = {"test set": album.test} | {f"{name}: {how(roll)}": roll.x for name, roll in album.rolls.items()}
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(2.4 * columns, 2.6 * rows), squeeze=False, layout="constrained")
    most = np.quantile(cells(album.test, album), 0.999)
    for ax in axes.flat[len(shown) :]:
        ax.axis("off")
    for ax, (title, x) in zip(axes.flat, shown.items(), strict=False):
        ax.imshow(cells(x, album) * len(album.test) / len(x), cmap="Blues", vmin=0, vmax=most, origin="lower")
        ax.set_title(title, fontsize=7)
        ax.set(xticks=[], yticks=[])
    return drawn


def strip(album: TokenAlbum) -> Figure:
    """The rows of every model at a few times."""
    rolls = album.rolls
    most = max(len(chosen(roll.way.times)) for roll in rolls.values())
    drawn, axes = plt.subplots(
        len(rolls), most, figsize=(SIDE * most, (SIDE + 0.18) * len(rolls)), squeeze=False, layout="constrained"
    )
    for line, (name, roll) in zip(axes, rolls.items(), strict=True):
        places = chosen(roll.way.times)
        for ax in line[len(places) :]:
            ax.axis("off")
        for ax, place in zip(line, places, strict=False):
            scattered(ax, roll.way.x[place], album)
            ax.set_title(f"t = {roll.way.times[place]:.2g}", fontsize=7)
        line[0].set_ylabel(name, fontsize=7)
    return drawn


def scattered(ax: Axes, x: np.ndarray, album: TokenAlbum) -> None:
    """Cells whose tokens are both known as dots, those of which one is known as ticks at the edge of the other."""
    first, second = album.about.vocabulary
    known = x != HIDDEN
    whole = x[known.all(1)]
    ax.plot(whole[:, 0], whole[:, 1], ".", ms=1.3, mew=0, color=COLOURS[0])
    left, below = x[~known[:, 0] & known[:, 1]], x[known[:, 0] & ~known[:, 1]]
    ax.plot(np.full(len(left), -0.04 * first), left[:, 1], "_", ms=3, mew=0.4, color=COLOURS[1])
    ax.plot(below[:, 0], np.full(len(below), -0.04 * second), "|", ms=3, mew=0.4, color=COLOURS[1])
    ax.set(xlim=(-0.09 * first, first), ylim=(-0.09 * second, second), xticks=[], yticks=[], aspect="equal")


# ---- Pictures.


def colours(album: TokenAlbum) -> tuple[int, ...]:
    """The shape of a picture in colours."""
    return 3, *album.about.shape[1:]


def coloured(x: np.ndarray, album: TokenAlbum) -> np.ndarray:
    """Pictures of tokens `(n, dim)` in colours, dark on white, where tokens that are hidden have one of their own."""
    dark = np.repeat(-shades(np.maximum(x, 0), album.about)[:, None], 3, 1)
    return np.where((x == HIDDEN)[:, None], UNKNOWN[:, None], dark).reshape(len(x), -1).astype(np.float32)


def followed(album: TokenAlbum) -> dict[tuple[str, str], Cell]:
    """The ways of a few pictures of every model."""
    found: dict[tuple[str, str], Cell] = {}
    for name, roll in album.rolls.items():
        places = chosen(roll.way.times)
        for k in range(min(FOLLOWED, roll.way.x.shape[1])):
            found[f"{name}: {how(roll)}" if not k else f"{name}, {k + 1}", ""] = (
                coloured(roll.way.x[places, k], album), 1, len(places)
            )  # fmt: skip
    return found


# ---- Other rows.


def commonest(x: np.ndarray) -> list[tuple[int, ...]]:
    """The rows that come most often, most first; of equals the larger first."""
    rows, counts = np.unique(x, axis=0, return_counts=True)
    order = sorted(range(len(rows)), key=lambda k: (-counts[k], tuple(-rows[k].astype(int))))
    return [tuple(rows[k].tolist()) for k in order[:COMMONEST]]


def shares(x: np.ndarray, rows: list[tuple[int, ...]]) -> list[float]:
    """The shares of some rows, and of all others."""
    found = [float((x == np.array(row)).all(1).mean()) for row in rows]
    return [*found, 1 - sum(found)]


def histograms(album: TokenAlbum) -> Figure:
    """Bars for the commonest rows, a colour for each model."""
    rows = sorted(commonest(album.test))
    names = [album.word(row) for row in rows] + ["others"]
    shown: Mapping[str, np.ndarray] = {"test set": album.test} | {name: roll.x for name, roll in album.rolls.items()}
    drawn, ax = plt.subplots(figsize=(9.2, 3.0), layout="constrained")
    width = 0.8 / len(shown)
    for k, (name, x) in enumerate(shown.items()):
        colour = GREY if not k else COLOURS[(k - 1) % len(COLOURS)]
        ax.bar(np.arange(len(names)) + (k + 0.5) * width - 0.4, shares(x, rows), width, label=name, color=colour)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    ax.set(ylabel="share")
    ax.legend(fontsize=7)
    return drawn


def strings(album: TokenAlbum) -> Figure:
    """The first rows of every model at a few times, a line of the picture each."""
    rolls = album.rolls
    most = max(len(chosen(roll.way.times)) for roll in rolls.values())
    drawn, axes = plt.subplots(
        len(rolls), most, figsize=(SIDE * most, 1.5 * len(rolls)), squeeze=False, layout="constrained"
    )
    for line, (name, roll) in zip(axes, rolls.items(), strict=True):
        for ax in line:
            ax.axis("off")
        for ax, place in zip(line, chosen(roll.way.times), strict=False):
            ax.axis("on")
            lines(ax, roll.way, int(place), album)
        line[0].set_ylabel(name, fontsize=7)
    return drawn


def lines(ax: Axes, way: Way, place: int, album: TokenAlbum) -> None:
    """Rows at one of the times: a token's shade is its place in the vocabulary."""
    x = way.x[place, :COMMONEST]
    shade = shades(np.maximum(x, 0), album.about)
    rgb = plt.get_cmap("Blues")(0.15 + 0.7 * (shade + 1) / 2)[..., :3]
    rgb[x == HIDDEN] = 0.85
    ax.imshow(rgb, aspect="auto", interpolation="nearest")
    ax.set_title(f"t = {way.times[place]:.2g}", fontsize=7)
    ax.set(xticks=[], yticks=[])
