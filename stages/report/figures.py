"""The report's figures, as data URIs: line charts in SVG, point clouds in PNG. Same numbers, same bytes."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "rectiflow", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 9, "legend.frameon": False,
    }
)  # fmt: skip
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from rectiflow.statistics import Estimate  # noqa: E402
from stages.report.mosaics import mosaic  # noqa: E402
from stages.report.results import Key  # noqa: E402
from stages.shared.measures import MEASURES  # noqa: E402

COLOURS = ["#3b6fb6", "#d1662a", "#3f9a5a", "#8a56ac", "#b8860b", "#4aa3a8"]
GREY = "#b9bec6"
PATHS = 80  # of each flow
WIDTH = 9.6  # inches of panels side by side


class Drawn(NamedTuple):
    """What is shown of a model, of one seed: points `(n, dim)` of the given shape, and paths `(times, n, dim)`.

    `nfe` are the evaluations of the reference draw, `times` those of the paths. What a model has not, a draw of one step or
    paths, is None.
    """

    target: np.ndarray
    reference: np.ndarray
    nfe: int
    seed: int
    shape: tuple[int, ...]
    one_step: np.ndarray | None = None
    paths: np.ndarray | None = None
    times: np.ndarray | None = None

    @property
    def image(self) -> bool:
        """Whether the points are pictures: their shape is `(channels, height, width)`."""
        return len(self.shape) == 3


def uri(figure: Figure, kind: str) -> str:
    """The figure as a data URI."""
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{mime};base64,{base64.b64encode(content(figure, kind)).decode()}"


def content(figure: Figure, kind: str) -> bytes:
    """The figure's file, without date or version."""
    buffer = io.BytesIO()
    nothing = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=110, metadata=nothing)
    plt.close(figure)
    return buffer.getvalue()


def _grid(shown: Mapping[Key, Any], width: float, height: float) -> tuple[Figure, Iterator[tuple[Axes, Key]]]:
    """Panels of one data set: a column for each round, a row for each method or, where these are as wide as a page, for
    several side by side; empty where there is no flow.
    """
    methods = list(dict.fromkeys(key[1] for key in shown))
    rounds = sorted({key[2] for key in shown})
    beside = max(1, min(len(methods), int(WIDTH / (width * len(rounds)))))
    rows, columns = -(-len(methods) // beside), len(rounds) * beside
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, (height + 0.25) * rows),
        squeeze=False,
        # Fixed margins: there is a title and nothing else, and working them out costs seconds.
        gridspec_kw={"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 1 - 0.25 / rows / (height + 0.25)}
        | {"wspace": 0.04, "hspace": 0.25 / height},
    )

    def place(method: str, k: int) -> tuple[int, int]:
        row, at = divmod(methods.index(method), beside)
        return row, at * len(rounds) + rounds.index(k)

    def panels() -> Iterator[tuple[Axes, Key]]:
        by_place = {place(method, k): (dataset, method, k) for dataset, method, k in shown}
        for at, ax in np.ndenumerate(axes):
            if at in by_place:
                key = by_place[at]
                ax.set_title(f"{key[1]}, round {key[2]}")
                yield ax, key
            else:
                ax.axis("off")

    return figure, panels()


def _pictures(ax: Axes, points: np.ndarray, shape: tuple[int, ...]) -> None:
    ax.imshow(np.clip(mosaic(points, shape, 4, 8), -1, 1), cmap="gray_r", vmin=-1, vmax=1, aspect="auto")
    ax.set(xticks=[], yticks=[])


def _bounds(points: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    both = np.concatenate([p[..., :2].reshape(-1, 2) for p in points])
    low, high = np.quantile(both, [0.001, 0.999], axis=0)
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def samples(draws: Mapping[Key, np.ndarray], shown: Mapping[Key, Drawn]) -> str:
    """Draws over the target; pictures where the points are images."""
    images = all(shown[key].image for key in draws)
    figure, panels = _grid(draws, *((3.2, 1.6) if images else (2.3, 2.3)))
    low, high = _bounds([shown[key].target for key in draws])
    for ax, key in panels:
        points, target = draws[key], shown[key].target
        if images:
            _pictures(ax, points, shown[key].shape)
            continue
        ax.plot(*target[:, :2].T, ".", ms=2, color=GREY, alpha=0.7)
        ax.plot(*points[:, :2].T, ".", ms=2, color=COLOURS[0], alpha=0.7)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    return uri(figure, "png")


def targets(drawn: Drawn) -> str | None:
    """The test set's first pictures, where the points are pictures."""
    if not drawn.image:
        return None
    figure, ax = plt.subplots(figsize=(3.2, 1.6), gridspec_kw={"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 0.99})
    _pictures(ax, drawn.target, drawn.shape)
    return uri(figure, "png")


def _paths_panel(ax: Axes, paths: np.ndarray, limits: tuple[np.ndarray, np.ndarray]) -> None:
    """Paths `(times, n, 2)` from source (open) to end (filled)."""
    (left, bottom), (right, top) = limits
    ax.plot(paths[..., 0], paths[..., 1], lw=0.6, color=COLOURS[0], alpha=0.55)
    ax.plot(*paths[0].T, "o", ms=2.2, mfc="white", mec=GREY, mew=0.6)
    ax.plot(*paths[-1].T, ".", ms=3, color=COLOURS[1])
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])


def trajectories(paths: Mapping[Key, np.ndarray]) -> str:
    """Paths `(times, n, dim)` of the flows of a data set, in the first two coordinates."""
    figure, panels = _grid(paths, 2.3, 2.3)
    limits = _bounds([of[:, :PATHS] for of in paths.values()])
    for ax, key in panels:
        _paths_panel(ax, paths[key][:, :PATHS, :2], limits)
    return uri(figure, "png")


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """So many panels in two columns."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.1 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, list(axes.flat)


def line_style(methods: list[str], method: str, k: int) -> dict[str, Any]:
    return {"color": COLOURS[methods.index(method) % len(COLOURS)], "ls": ["-", "--", ":", "-."][k % 4], "lw": 1.4}


def marked(k: int) -> dict[str, Any]:
    """The colour and the mark of the k-th of some methods: the same colour comes again with another mark."""
    return {"color": COLOURS[k % len(COLOURS)], "marker": "osD^vP"[k // len(COLOURS) % 6]}


def errorbars(ax: Axes, x: Sequence[float], found: Sequence[Estimate], **style: Any) -> None:
    """Means with their intervals against x."""
    ax.errorbar(x, [e.mean for e in found], [e.half for e in found], marker="o", ms=3, capsize=2, elinewidth=0.7, **style)


def over_rounds(ax: Axes) -> None:
    """An axis of rounds, which are whole numbers."""
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    ax.set(xlabel="round")


def levels(ax: Axes, floor: float) -> None:
    """The floor as a line with its name."""
    ax.axhline(floor, color="#666", lw=0.8)
    ax.annotate("floor", (1, floor), (-2, -2), ("axes fraction", "data"), "offset points", ha="right", va="top", fontsize=8)


def _nfe_panel(ax: Axes, nfe: pd.DataFrame, dataset: str, floor: float) -> None:
    """W2 of every model of a data set against the solver's evaluations, with 95 % intervals and the floor."""
    methods = list(nfe.method.unique())
    for (method, k), drawn in nfe[nfe.dataset == dataset].groupby(["method", "round"], sort=False):
        solvers = list(drawn.solver.unique())
        named = "euler" if "euler" in solvers else solvers[0]  # a model has one entry in the legend
        for solver in solvers:
            rows = drawn[drawn.solver == solver]
            style = line_style(methods, method, k) | ({} if len(rows) > 1 else {"ls": ""})
            errors = np.stack([rows.w2 - rows.low, rows.high - rows.w2])
            label = f"{method} {k}" if solver == named else None
            marker = "o" if solver == "euler" else "D"
            ax.errorbar(rows.nfe, rows.w2, errors, marker=marker, ms=3, capsize=2, elinewidth=0.7, label=label, **style)
    levels(ax, floor)
    ax.set(title=dataset, xscale="log", yscale="log", xlabel="function evaluations", ylabel=MEASURES["w2"].axis)
    ax.legend(fontsize=7, ncols=2)


def against_nfe(nfe: pd.DataFrame, floors: Mapping[str, float]) -> str:
    """W2 against the number of function evaluations, a panel for each data set."""
    datasets = list(nfe.dataset.unique())
    figure, axes = panels(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=False):
        _nfe_panel(ax, nfe, dataset, floors[dataset])
    return uri(figure, "svg")


def overview(nfe: pd.DataFrame, floors: Mapping[str, float], shown: Mapping[Key, Drawn]) -> bytes:
    """One picture of the result, for the README: W2 against NFE and the paths of the flow with the most rounds, in the plane
    if there is one. Without a flow there are no paths beside it.
    """
    paths = {key: drawn.paths for key, drawn in shown.items() if drawn.paths is not None}
    depth = {key[:2]: sum(other[:2] == key[:2] for other in paths) for key in paths}
    flat = {key[:2] for key, of in paths.items() if of.shape[2] == 2}
    first = [next(iter(shown))[:2]]
    dataset, method = max(depth or first, key=lambda pair: (pair in flat, depth.get(pair, 0)))  # the first of equals
    rounds = {key[2]: of[:, :PATHS] for key, of in paths.items() if key[:2] == (dataset, method)}
    figure, axes = plt.subplots(
        1,
        1 + len(rounds),
        figsize=(4.2 + 2.6 * len(rounds), 3.2),
        width_ratios=[1.5] + [1] * len(rounds),
        layout="constrained",
        squeeze=False,
    )
    _nfe_panel(axes[0, 0], nfe, dataset, floors[dataset])
    for ax, (k, of) in zip(axes[0, 1:], rounds.items(), strict=True):
        ax.set_title(f"{method}, round {k}")
        _paths_panel(ax, of[..., :2], _bounds(list(rounds.values())))
    return content(figure, "png")


def per_round(rounds: pd.DataFrame) -> str:
    """Straightness after each round, a line for each data set and method that was rectified."""
    figure, axes = panels(1)
    methods = list(rounds.method.unique())
    for (dataset, method), rows in rounds.groupby(["dataset", "method"], sort=False):
        if len(rows) > 1:
            style = line_style(methods, method, list(rounds.dataset.unique()).index(dataset))
            axes[0].plot(rows["round"], rows.straightness, marker="o", ms=4, label=f"{dataset} {method}", **style)
    axes[0].set(yscale="log", ylabel=MEASURES["straightness"].axis)
    over_rounds(axes[0])
    if axes[0].get_lines():
        axes[0].legend(fontsize=8)
    return uri(figure, "svg")


def training(losses: pd.DataFrame) -> str:
    """Held-out loss against steps, a panel for each data set; losses of different objectives have different floors."""
    datasets, methods = list(losses.dataset.unique()), list(losses.method.unique())
    figure, axes = panels(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=False):
        for (method, k), rows in losses[losses.dataset == dataset].groupby(["method", "round"], sort=False):
            ax.plot(rows.step, rows.validation, label=f"{method} {k}", **line_style(methods, method, k))
        scale = "log" if losses.validation[losses.dataset == dataset].min() > 0 else "linear"  # a likelihood's may be below
        ax.set(title=dataset, yscale=scale, xlabel="step", ylabel="held-out loss")
        ax.legend(fontsize=7, ncols=2)
    return uri(figure, "svg")
