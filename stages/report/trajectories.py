"""The paths of flows from source to target: as pictures, and as points that move with t."""

from collections.abc import Mapping

import numpy as np

from stages.report import animation, figures
from stages.report.figures import Drawn
from stages.report.html import figure, part
from stages.report.results import Key

POINTS, TIMES = 200, 26  # of each flow that moves


def by_dataset(shown: Mapping[Key, Drawn]) -> dict[str, dict[Key, Drawn]]:
    names = dict.fromkeys(key[0] for key in shown)
    return {name: {key: drawn for key, drawn in shown.items() if key[0] == name} for name in names}


def reference_title(shown: Mapping[Key, Drawn], otherwise: str = "reference") -> str:
    """What the reference draws of some models are called: by their steps where all are of as many."""
    nfe = {drawn.nfe for drawn in shown.values()}
    flows = all(drawn.paths is not None for drawn in shown.values())
    return f"{nfe.pop()} Euler steps" if flows and len(nfe) == 1 else otherwise


def trajectory_parts(shown: Mapping[Key, Drawn]) -> list[str]:
    """The paths of flows, data set by data set."""
    parts: list[str] = []
    for dataset, here in by_dataset({key: drawn for key, drawn in shown.items() if drawn.paths is not None}).items():
        said = f"paths of {reference_title(here, 'the reference solve')} from source (open) to end"
        caption = f"{dataset}: {said}, seed {next(iter(here.values())).seed}, first two coordinates."
        paths = {key: drawn.paths for key, drawn in here.items() if drawn.paths is not None}
        pictures = [figure(figures.trajectories(paths), caption), *moving(dataset, here)]
        parts.append(part(dataset, *pictures, unfolded=not parts))
    return parts


def moving(dataset: str, shown: Mapping[Key, Drawn]) -> list[str]:
    """Players of the flows of a data set, one for all whose states are known at the same times."""
    by_times: dict[tuple[float, ...], dict[Key, Drawn]] = {}
    for key, drawn in shown.items():
        by_times.setdefault(times(drawn), {})[key] = drawn
    parts = []
    for found, here in by_times.items():
        x, y = widest(next(iter(here.values())))
        frames = {f"{method}, round {k}": thinned(of)[..., [x, y]] for (_, method, k), of in here.items()}
        title = f"{dataset}: points on their way from source to target, coordinates {x + 1} and {y + 1}"
        parts.append(animation.player(title, frames, [f"{t:.2f}" for t in found], "t"))
    return parts


def times(drawn: Drawn) -> tuple[float, ...]:
    """The times at which a flow's points are shown, evenly chosen."""
    assert drawn.paths is not None
    known = np.linspace(0, 1, len(drawn.paths)) if drawn.times is None else drawn.times
    return tuple(known[chosen(len(known))].tolist())


def chosen(count: int) -> np.ndarray:
    """At most TIMES places of so many, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, TIMES)).round().astype(int))


def thinned(drawn: Drawn) -> np.ndarray:
    """The states at the times that are shown, of the first points."""
    assert drawn.paths is not None
    return drawn.paths[chosen(len(drawn.paths)), :POINTS]


def widest(drawn: Drawn) -> tuple[int, int]:
    """The two coordinates in which the target varies most, in their order; corners of pictures are always empty."""
    first, second = sorted(np.argsort(-drawn.target.var(0), kind="stable")[:2].tolist())
    return first, second
