"""A user's trajectories as transitions: what is next of a state under an action, row by row of a Parquet file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field
from torch import Tensor, from_numpy

from rectiflow.dataset import Conditions, Dataset, Empirical
from rectiflow.tabular import conditions, table
from rectiflow.units import Scaled
from stages.shared.params import PARAMS, Refused, finish, parse
from stages.shared.splits import Sizes
from stages.shared.tables import field, opened

APART = 1e-3  # of a time step, that two may differ by


class Walks(Sizes):
    """A Parquet file whose rows are states at times of trajectories: the columns that name the trajectory and the time, the
    states, and the actions that were taken from there on. Where `whole`, x is not the change but the next state.
    """

    path: str
    trajectory: str
    time: str
    states: list[str] = Field(min_length=1)
    actions: list[str] = Field(min_length=1)
    whole: bool = False

    @property
    def numbers(self) -> list[str]:
        """The columns of states and actions."""
        return [*self.states, *self.actions]


def are_walks(row: Any) -> bool:
    """Whether a row of `tables` has trajectories."""
    return isinstance(row, dict) and "trajectory" in row


def build_walks(row: Any, key: str) -> tuple[Walks, Dataset]:
    """N(0, I) -> the changes of the state from row to row, brought to mean 0 and deviation 1, with state and action before
    them as condition. Raises Refused for what is no trajectory.
    """
    found = parse(Walks, row, key)
    names = [found.trajectory, found.time, *found.numbers]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise Refused(f"{PARAMS}: {key}: {name!r} is there twice")
    columns = read_walks(found, key)
    before, change = transitions(found, columns)
    told: Conditions = finish(conditions, {"names": found.numbers, "target": before}, key)
    dataset: Dataset = finish(table, {"target": change, "scaling": "standard"}, key)
    if found.whole:
        dim = len(found.states)
        units = Scaled(told.units.shift[:dim], told.units.scale[:dim])
        rows = Empirical(from_numpy(units((before[:, :dim] + change).numpy())))
        dataset = replace(dataset, target=rows, units=units)
    return found, replace(dataset, condition=replace(told, whole=found.whole))


def read_walks(walks: Walks, key: str) -> dict[str, np.ndarray]:
    """The columns, trajectory after trajectory, each in the order of its times."""
    of = {"trajectory": [walks.trajectory], "time": [walks.time], "states": walks.states, "actions": walks.actions}
    with opened(walks_path(walks, key)) as file:
        kinds = {name: field(file.schema_arrow, name, f"{key}.{part}").type for part, names in of.items() for name in names}
        read = file.read(list(kinds))
    for name, kind in kinds.items():
        if name != walks.trajectory and not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise Refused(f"{walks.path}: column {name!r} holds {kind}, not numbers")
    ids = read[walks.trajectory]
    if ids.null_count:
        raise Refused(f"{walks.path}: column {walks.trajectory!r} has {ids.null_count} missing values")
    encoded = ids.combine_chunks().dictionary_encode()
    place = np.asarray(encoded.indices)
    found = {name: np.asarray(read[name].to_numpy(), np.float64) for name in kinds if name != walks.trajectory}
    order = np.lexsort((found[walks.time], place))
    names = np.asarray(encoded.dictionary.to_pylist(), object)[place]
    return {name: column[order] for name, column in {walks.trajectory: names, **found}.items()}


def walks_path(walks: Walks, key: str) -> Path:
    """The file. Raises Refused where there is none."""
    if not (path := Path(walks.path)).is_file():
        raise Refused(f"{PARAMS}: {key}.path: {walks.path!r} is no file")
    return path


def transitions(walks: Walks, columns: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    """States and actions `(n, numbers)`, and how the state changes from there to the next row, `(n, states)`. Raises Refused
    naming the trajectory where time does not go on evenly, or a number is missing.
    """
    ids, time = columns[walks.trajectory], columns[walks.time]
    follows = ids[1:] == ids[:-1]
    if not follows.any():
        raise Refused(f"{walks.path}: no trajectory has two rows; there is nothing that follows")
    for name in (walks.time, *walks.states):
        missing(walks, columns, name, ~np.isfinite(columns[name]))
    last = np.append(~follows, True)  # from which nothing follows
    for name in walks.actions:
        missing(walks, columns, name, ~np.isfinite(columns[name]) & ~last)
    steps = np.diff(time)
    usual = np.median(steps[follows])
    if (bad := np.flatnonzero(follows & (abs(steps - usual) > APART * abs(usual)))).size or usual <= 0:
        k = int(bad[0]) if bad.size else int(np.flatnonzero(follows)[0])
        raise Refused(
            f"{walks.path}: trajectory {ids[k]!r}: from {walks.time} {time[k]:g} to {time[k + 1]:g}, where a step is of "
            f"{usual:g}: rows follow each other evenly, without gaps"
        )
    states, numbers = (np.stack([columns[name] for name in names], 1) for names in (walks.states, walks.numbers))
    change = (states[1:] - states[:-1])[follows]
    return from_numpy(numbers[:-1][follows]), from_numpy(change)


def missing(walks: Walks, columns: dict[str, np.ndarray], name: str, rows: np.ndarray) -> None:
    """Raise Refused where a number of a column is missing."""
    if rows.any():
        k = int(np.flatnonzero(rows)[0])
        what = "action" if name in walks.actions else "time" if name == walks.time else "state"
        raise Refused(
            f"{walks.path}: trajectory {columns[walks.trajectory][k]!r}: {what} {name!r} is missing at {walks.time} "
            f"{columns[walks.time][k]:g}"
        )
