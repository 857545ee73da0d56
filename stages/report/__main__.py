"""Gather everything into `reports/`: metrics.json, results.csv, plots/*.csv and the page index.html."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.report.figures import Drawn, Key, overview
from stages.report.page import page
from stages.report.results import against_nfe, agreements, curves, headlines, per_round, rounded, select, tidy
from stages.report.studies.all import Evidence, sections
from stages.shared.io import DATA, ENDED, read_table, write_bytes, write_json, write_text
from stages.shared.params import PARAMS, parse, read
from stages.shared.progress import progress
from stages.shared.rows import Flow
from stages.shared.start import run

REPORTS = Path("reports")


def flow_keys(content: dict[str, Any]) -> dict[Key, str]:
    """`(dataset, method, round)` of every row of `flows`, data set by data set, and its name."""
    flows = {name: parse(Flow, row, f"flows.{name}") for name, row in content["flows"].items()}
    keys = {(flow.dataset, flow.method, int(name.rsplit("round", 1)[1])): name for name, flow in flows.items()}
    datasets, methods = (list(dict.fromkeys(key[i] for key in keys)) for i in (0, 1))
    return dict(sorted(keys.items(), key=lambda item: (datasets.index(item[0][0]), methods.index(item[0][1]), item[0][2])))


def drawn(name: str, dataset: str, steps: int) -> Drawn:
    """What the figures show of a flow: the first seed's target, draws after one and after `steps` steps, and paths."""
    points = read_table(DATA / "generate" / dataset / "points.parquet", side="target", split="test")
    seed = int(points["seed"][0])
    samples = read_table(DATA / "sample" / name / "samples.parquet", seed=seed, solver="euler")
    paths = read_table(DATA / "sample" / name / "trajectories.parquet", seed=seed)
    times = len(np.unique(paths["t"]))
    return Drawn(
        target=plane(points["x"][points["seed"] == seed]),
        one_step=plane(samples["x"][samples["nfe"] == 1]),
        many_steps=plane(samples["x"][samples["nfe"] == steps]),
        paths=plane(paths["x"].reshape(times, -1, paths["x"].shape[1])),
        seed=seed,
    )


def plane(x: np.ndarray) -> np.ndarray:
    """Points on a line get a second coordinate, zero; others stay."""
    return x if x.shape[-1] > 1 else np.concatenate([x, np.zeros_like(x)], -1)


def relations(content: dict[str, Any]) -> pd.DataFrame:
    """What was measured between fields: the rows of all relations, with their names and what they relate."""
    frames = [
        pd.DataFrame(read_table(DATA / "evaluate" / f"{name}.parquet")).assign(
            name=name, dataset=row["dataset"], first=row["first"], second=row["second"],
            path=(row.get("path") or method_of(content, row["first"])["interpolant"])["name"],
        )
        for name, row in content["relations"].items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def method_of(content: dict[str, Any], flow: str) -> dict[str, Any]:
    return content["methods"][content["flows"][flow]["method"]]


def choices(content: dict[str, Any]) -> pd.DataFrame:
    """The evidence of all choices, with their names, data sets and budgets."""
    frames = []
    for name, row in content["choices"].items():
        folder = DATA / "train" / name
        budget = json.loads((folder / "choice.json").read_text())["steps"]
        evidence = pd.DataFrame(read_table(folder / "evidence.parquet"))
        frames.append(evidence.assign(name=name, dataset=row["dataset"], steps=budget))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def csv(frame: pd.DataFrame) -> str:
    """Comma-separated values with ten significant digits."""
    return frame.map(lambda value: rounded(value) if isinstance(value, float) else value).to_csv(index=False)


def main(_: list[str]) -> None:
    """`python -m stages.report`"""
    content = read()
    steps, keys = content["sample"]["trajectory_steps"], flow_keys(content)
    ended = {name: DATA / "train" / name / ENDED for name in keys.values() if (DATA / "train" / name / ENDED).exists()}
    keys = {key: name for key, name in keys.items() if name not in ended}
    say = progress("report", 3, 3)
    results = tidy({key: read_table(DATA / "evaluate" / f"{name}.parquet") for key, name in keys.items()})
    losses = curves({key: read_table(DATA / "train" / name / "curves.parquet") for key, name in keys.items()})
    nfe, rounds = against_nfe(results), per_round(results, steps, ["straightness", "chord_deviation", "w2", "w2_1step"])
    say(1, f"{len(results)} measurements of {len(keys)} flows")
    shown = {key: drawn(name, key[0], steps) for key, name in keys.items()}
    floors = select(results, steps, "w2_floor").groupby("dataset").value.mean().to_dict()
    evidence = Evidence(results, nfe, floors, relations(content), choices(content), steps)
    why = [path.read_text().strip() for path in ended.values()]
    studies = sections(content["studies"], evidence)
    html = page(results, nfe, rounds, losses, shown, floors, steps, PARAMS.read_text(), studies, list(dict.fromkeys(why)))
    say(2, "page drawn")
    write_text(REPORTS / "results.csv", csv(results))
    for name, frame in {"w2_nfe": nfe, "straightness": rounds, "training": losses}.items():
        write_text(REPORTS / "plots" / f"{name}.csv", csv(frame))
    write_json(REPORTS / "metrics.json", headlines(results, steps) | agreements(evidence.relations))
    write_bytes(REPORTS / "result.png", overview(nfe, floors, shown))
    write_text(REPORTS / "index.html", html)
    say(3, str(REPORTS / "index.html"))


if __name__ == "__main__":
    run(main)
