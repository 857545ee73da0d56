"""What the report reads: the models of the grid, their measurements and curves, relations, choices, and what is drawn."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.report.albums import Album, Drawing, Paths, Roll, picked
from stages.report.densities import DensityMap
from stages.report.figures import Drawn
from stages.report.gradient_flows import Followed
from stages.report.results import Key, curves, tidy
from stages.report.token_albums import TokenAlbum, TokenRoll, Way, shades
from stages.shared import bounds, collapse, given, judges, modes, movements, places, rollouts, tokens
from stages.shared.io import read_table, read_weights
from stages.shared.latents import Decoded
from stages.shared.params import GRID, parse, read
from stages.shared.points import About, read_about, read_split
from stages.shared.teachers import Taught


def models() -> dict[Key, str]:
    """`(dataset, method, round)` of every trained model of the grid, data set by data set, and its name."""
    flows = {name: parse(Taught, row, f"flows.{name}", GRID) for name, row in read(GRID)["flows"].items()}
    keys = {(flow.dataset, flow.method, flow.round): name for name, flow in flows.items()}
    datasets, methods = (list(dict.fromkeys(key[i] for key in keys)) for i in (0, 1))
    return dict(sorted(keys.items(), key=lambda item: (datasets.index(item[0][0]), methods.index(item[0][1]), item[0][2])))


def decoded() -> dict[Key, str]:
    """`(dataset, method, round)` of what is drawn of latents and decoded, and its name."""
    rows = {name: parse(Decoded, row, f"decoded.{name}", GRID) for name, row in read(GRID)["decoded"].items()}
    return {(row.dataset, row.method, row.round): name for name, row in rows.items()}


def behind(name: str) -> list[str]:
    """The trained models that draws come from, the last one last: a flow and its bottleneck, or the model itself."""
    row = read(GRID)["decoded"].get(name)
    return [name] if row is None else [row["bottleneck"], row["flow"]]


def learned_from(name: str) -> set[str]:
    """The models that were trained before a trained one could be: teachers, earlier rounds, bottlenecks, and theirs. What
    was tried for a choice of the path is none of them.
    """
    grid = read(GRID)
    rounds = grid["reflows"] | grid["until"]
    row = grid["flows"][name]
    found = [grid["encoded"][row["dataset"]]["bottleneck"]] if row["dataset"] in grid["encoded"] else []
    for kind, _, of in (row[part].partition("/") for part in ("data", "teacher")):
        if kind == "reflow":
            found.append(rounds[of]["flow"])
        elif kind == "train" and of in grid["flows"]:
            found.append(of)
    return set(found).union(*map(learned_from, found))


def ended(names: Mapping[Key, str]) -> dict[Key, str]:
    """The rounds that were not worth it, and why."""
    notes = {key: places.trained(behind(name)[-1]) / places.ENDED for key, name in names.items()}
    return {key: note.read_text().strip() for key, note in notes.items() if note.exists()}


def results(names: Mapping[Key, str]) -> pd.DataFrame:
    """The measurements of all models, of their densities too."""
    return tidy({key: measured(name) for key, name in names.items()} | baselines() | energies() | accuracies())


def baselines() -> dict[Key, dict[str, np.ndarray]]:
    """The measurements of the baselines, each as if it were a method."""
    return {
        (dataset, name, 0): read_table(places.baseline(dataset, name))
        for dataset in read(GRID)["baselined"]
        for name in read()["baselines"]
    }


def energies() -> dict[Key, dict[str, np.ndarray]]:
    """The measurements of the gradient flows, each as if it were a method."""
    rows = read(GRID)["movements"]
    return {(row["dataset"], name, 0): read_table(movements.measured(name)) for name, row in rows.items()}


def accuracies() -> dict[Key, dict[str, np.ndarray]]:
    """How often judges are right, each as if it were a method."""
    rows = read(GRID)["judging"]
    return {(row["dataset"], name, 0): read_table(judges.accuracy(name)) for name, row in rows.items()}


def followed(content: Mapping[str, Any]) -> dict[str, Followed]:
    """The gradient flows, step by step."""
    found = {}
    for name in read(GRID)["movements"]:
        steps, frames = pd.DataFrame(read_table(movements.steps(name))), read_table(movements.frames(name))
        count = int(steps.step.max()) + 1
        points = frames["x"].reshape(count, -1, frames["x"].shape[1])
        found[name] = Followed(content["gradient_flows"][name], steps, points)
    return found


def measured(name: str) -> dict[str, np.ndarray]:
    """The measurements of a model, and of what else of it is measured."""
    further = (
        places.density_measures, modes.measured, bounds.measured, judges.measured, tokens.measured, given.measured,
        rollouts.measured, collapse.measured,
    )  # fmt: skip
    paths = (places.evaluated(name), *(place(name) for place in further))
    tables = [read_table(path) for path in paths if path.exists()]
    return {column: np.concatenate([table[column] for table in tables]) for column in tables[0]}


def maps(names: Mapping[Key, str]) -> dict[Key, DensityMap]:
    """The density maps of all models that have one."""
    paths = {key: places.density_map(name) for key, name in names.items()}
    return {key: density_map(read_table(path)) for key, path in paths.items() if path.exists()}


def density_map(table: Mapping[str, np.ndarray]) -> DensityMap:
    """A map as squares of numbers; its rows run through y first."""
    x, (log_prob, truth) = table["x"], (square(table[name]) for name in ("log_prob", "truth"))
    return DensityMap(x.min(0), x.max(0), log_prob, None if np.isnan(truth).any() else truth)


def square(values: np.ndarray) -> np.ndarray:
    side = round(len(values) ** 0.5)
    return values.reshape(side, side)


def losses(names: Mapping[Key, str]) -> pd.DataFrame:
    """The loss curves of all models."""
    return curves({key: read_table(places.curves(name)) for key, name in names.items()})


def spent(names: Mapping[Key, str]) -> pd.DataFrame:
    """How many weights each model has, those of other players among them, the steps of its training, and those `before`, of
    what it learned from.
    """
    rows = []
    for key, name in names.items():
        drawn_by = behind(name)
        sizes = [weights_steps(model) for model in drawn_by]
        others = set().union(*map(learned_from, drawn_by)).difference(drawn_by)
        before = sum(weights_steps(model)[1] for model in others)
        rows.append([*key, *map(sum, zip(*sizes, strict=True)), before])
    return pd.DataFrame(rows, columns=["dataset", "method", "round", "weights", "steps", "before"])


def weights_steps(name: str) -> tuple[int, int]:
    """The weights of a seed, and the steps of its training."""
    arrays, spec = read_weights(places.model(places.trained(name)))
    return sum(arrays[player].shape[1] for player in spec["players"]), int(read_table(places.curves(name))["step"].max())


def ends(names: Mapping[Key, str]) -> pd.DataFrame:
    """The held-out loss of every seed of every model at the end of its training."""
    frames = [
        pd.DataFrame(read_table(places.curves(name))).groupby("seed").last().reset_index()
        .assign(dataset=key[0], method=key[1], round=key[2])
        for key, name in names.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def drawn(name: str, dataset: str) -> Drawn | None:
    """What the figures show of a model: the first seed's target, its draws and, of a flow, its paths. None for tokens that
    are no pictures.
    """
    split, about = read_split(dataset, "target", "test"), read_about(dataset)
    if about.vocabulary and len(about.shape) != 3:
        return None
    seed, target = split.seeds[0], pictures(split.x[0], about)
    samples = read_table(places.samples(name), seed=seed)
    samples["x"] = pictures(samples["x"], about)
    reference, one_step = (samples["role"] == role for role in ("reference", "one_step"))
    return Drawn(
        target=plane(target),
        reference=plane(samples["x"][reference]),
        nfe=int(samples["nfe"][reference][0]),
        seed=seed,
        shape=about.shape,
        one_step=plane(samples["x"][one_step]) if one_step.any() else None,
        **paths(name, seed),
    )


def pictures(x: np.ndarray, about: About) -> np.ndarray:
    """Rows of whole levels, and tokens, as numbers in [-1, 1], as pictures are shown; others stay."""
    if about.vocabulary:
        return shades(x, about)
    if about.units is None or not about.units.levels:
        return x
    return (2 * about.units.back(x) / about.units.levels - 1).astype(np.float32)


def paths(name: str, seed: int) -> dict[str, np.ndarray]:
    """The states `(times, n, dim)` of a flow, its `paths`, and their `times`; nothing where there are none."""
    path = places.trajectories(name)
    if not path.exists():
        return {}
    table = read_table(path, seed=seed)
    times = np.unique(table["t"])
    return {"paths": plane(table["x"].reshape(len(times), -1, table["x"].shape[1])), "times": times}


def plane(x: np.ndarray) -> np.ndarray:
    """Points on a line get a second coordinate, zero; others stay."""
    return x if x.shape[-1] > 1 else np.concatenate([x, np.zeros_like(x)], -1)


def album(names: Mapping[Key, str], dataset: str) -> Album | None:
    """What can be seen of a data set, of the first seed; None for one whose rows are no pictures."""
    about = read_about(dataset)
    if len(about.shape) != 3:
        return None
    test = read_split(dataset, "target", "test")
    lines, rows = picked(None if test.label is None else test.label[0], about.classes, test.x.shape[1])
    here = {key[1:]: name for key, name in names.items() if key[0] == dataset}
    rolls = {key: roll(name, test.seeds[0], rows, about) for key, name in here.items()}
    return Album(test.seeds[0], about.shape, lines, pictures(test.x[0][rows], about), rolls)


def token_album(names: Mapping[Key, str], dataset: str) -> TokenAlbum | None:
    """What can be seen of a data set of tokens, of the first seed; None for one of numbers."""
    about = read_about(dataset)
    if not about.vocabulary:
        return None
    test = read_split(dataset, "target", "test")
    rolls = {method: token_roll(name, test.seeds[0]) for (of, method, k), name in names.items() if of == dataset and not k}
    return TokenAlbum(test.seeds[0], about, test.x[0], rolls)


def token_roll(name: str, seed: int) -> TokenRoll:
    """What a model of tokens drew as its reference, and the way there."""
    table, states = read_table(places.samples(name), seed=seed, role="reference"), read_table(places.states(name), seed=seed)
    times = np.unique(states["t"])
    way = Way(times, states["x"].reshape(len(times), -1, states["x"].shape[1]))
    said = read_weights(places.model(places.trained(name)))[1]["model"]
    told, even = said.get("conditions", 0) > 0, said.get("kappa", {}).get("name") == "linear"
    return TokenRoll(str(table["solver"][0]), int(table["nfe"][0]), table["x"], way, told, even)


def roll(name: str, seed: int, rows: np.ndarray, about: About) -> Roll:
    """What a model drew in place of some rows of the test set, and their paths, where they have some."""
    table = read_table(places.samples(name), seed=seed)
    drawings = []
    for draw in dict.fromkeys(table["draw"].tolist()):
        of = table["draw"] == draw
        solver, nfe, role = (table[column][of][0] for column in ("solver", "nfe", "role"))
        drawings.append(Drawing(str(solver), int(nfe), str(role), pictures(table["x"][of][rows], about)))
    states, known = paths(name, seed), None
    if states:
        there = np.flatnonzero(rows < states["paths"].shape[1])
        known = Paths(states["times"], pictures(states["paths"][:, rows[there]], about), there.tolist())
    return Roll(drawings, "label" in table, len(behind(name)) - 1, known)


def couplings(content: Mapping[str, Any], names: Mapping[Key, str]) -> pd.DataFrame:
    """The coupling of every method of round 0 that has one, and all `else` that its row says, in one text."""
    rows = []
    for (dataset, method, k), name in names.items():
        flow = read(GRID)["flows"][behind(name)[-1]]
        of = dict(content["methods"][flow["method"]])
        if not k and (coupling := of.pop("coupling", None)):
            others = json.dumps([flow["dataset"], flow.get("override"), of], sort_keys=True)
            rows.append([dataset, method, content["couplings"][coupling]["name"], others])
    return pd.DataFrame(rows, columns=["dataset", "method", "coupling", "else"])


def tracks(names: Mapping[Key, str]) -> pd.DataFrame:
    """Roll-outs of the first seed of every model that has some: the numbers of a state in columns `s_NAME`; those of the
    system, whose role is `system`, once a data set.
    """
    frames, seen = [], set[str]()
    for key, name in names.items():
        if (path := rollouts.tracks(name)).exists():
            frame = unpacked(first_seed(path), key, {"s": [f"s_{one}" for one in read_about(key[0]).state]})
            system = frame.solver == ""
            frame.loc[system, "role"] = "system"
            frames.append(frame[~system] if key[0] in seen else frame)
            seen.add(key[0])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def bands(names: Mapping[Key, str]) -> pd.DataFrame:
    """The bands of the first seed's first starts, columns `low_NAME` and `high_NAME`, once a data set."""
    frames: dict[str, pd.DataFrame] = {}
    for key, name in names.items():
        if key[0] not in frames and (path := rollouts.bands(name)).exists():
            numbers = [*(f"s_{one}" for one in read_about(key[0]).state), "energy"]
            columns = {end: [f"{end}_{one}" for one in numbers] for end in ("low", "high")}
            frames[key[0]] = unpacked(first_seed(path), key, columns)
    return pd.concat(frames.values(), ignore_index=True) if frames else pd.DataFrame()


def first_seed(path: Path) -> dict[str, np.ndarray]:
    """The rows of a table's first seed."""
    table = read_table(path)
    mine = table["seed"] == table["seed"][0]
    return {name: column[mine] for name, column in table.items()}


def unpacked(table: Mapping[str, np.ndarray], key: Key, vectors: Mapping[str, list[str]]) -> pd.DataFrame:
    """A table of a model with its vectors in columns of their own."""
    single = {name: column for name, column in table.items() if name not in vectors}
    parts = {one: table[name][:, k] for name, columns in vectors.items() for k, one in enumerate(columns)}
    return pd.DataFrame(single | parts).assign(dataset=key[0], method=key[1], round=key[2])


def relations(content: Mapping[str, Any]) -> pd.DataFrame:
    """What was measured between fields: the rows of all relations, with their names and what they relate."""
    frames = [
        pd.DataFrame(read_table(places.evaluated(name))).assign(
            name=name, dataset=row["dataset"], first=row["first"], second=row["second"],
            path=(row.get("path") or method_of(content, row["first"])["interpolant"])["name"],
        )
        for name, row in content["relations"].items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def method_of(content: Mapping[str, Any], flow: str) -> dict[str, Any]:
    return content["methods"][read(GRID)["flows"][flow]["method"]]


def choices(content: Mapping[str, Any]) -> pd.DataFrame:
    """The evidence of all choices, with their names, data sets and budgets."""
    frames = []
    for name, row in content["choices"].items():
        budget = json.loads(places.choice(name).read_text())["steps"]
        evidence = pd.DataFrame(read_table(places.evidence(name)))
        frames.append(evidence.assign(name=name, dataset=row["dataset"], steps=budget))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
