"""Train a judge, a classifier whose features draws are measured by: `data/judge/NAME/model.safetensors`, the loss curves
beside it, `features.parquet`, what it sees of the test set and of the target's second sample, rows `(split, seed, label,
judged, x)`; and `data/evaluate/judge/NAME.parquet`, how often it is right, rows as those of `stages.evaluate`.

There is one for each seed, trained on that seed's rows: all of the table but those for validation, test and floor. So both
samples that make a floor are new to it, also where models are trained on the second one: a table has no other rows to give.
Features are each judge's own: a distance stands beside its floor by the same judge, and means over seeds are over judges.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from rectiflow.models.classifier import Classifier
from rectiflow.pairs import Points
from rectiflow.training import fit
from stages.shared import judges, places
from stages.shared.compute import prepare, stream
from stages.shared.io import read_table, split_parts, write_parts, write_table
from stages.shared.judges import Judge
from stages.shared.models import write_model
from stages.shared.objectives import objective_of, training_of
from stages.shared.pairs import read_labelled
from stages.shared.params import PARAMS, Refused, finish, load, read
from stages.shared.points import read_about
from stages.shared.progress import progress
from stages.shared.rows import load_workers
from stages.shared.start import run
from stages.shared.tasks import Draw, Task, write_measures
from stages.train import curves_table

HELD_OUT = ("validation", "test", "floor")
ROWS = 2048  # that are looked at together

Seen = dict[str, np.ndarray]


def method(judge: Judge) -> dict[str, object]:
    """A judge as a row of `methods` says how a model is trained."""
    return {
        "objective": "crossentropy", "model": {"name": "classifier"}, "network": judge.network, "training": judge.training,
        "shift": judge.shift,
    }  # fmt: skip


def training_rows(dataset: str, key: str) -> Points:
    """Every seed's rows of the table that are not held out. Raises Refused where there are none."""
    table, rows = read_table(places.table(dataset, "target")), read_table(places.rows(dataset), side="target")
    held = np.isin(rows["split"], HELD_OUT)
    numbers = range(len(table["x"]))
    left = [np.setdiff1d(numbers, rows["row"][held & (rows["seed"] == seed)]) for seed in dict.fromkeys(rows["seed"])]
    if not len(left[0]):
        raise Refused(
            f"{PARAMS}: {key}.dataset: validation, test and as many rows for the floor leave none of {dataset!r} to train on"
        )
    about, taken = read_about(dataset), np.stack(left)
    x, label = table["x"][taken].astype(np.float32), table["label"][taken]
    return Points(torch.from_numpy(x), torch.from_numpy(label), about.shape, len(about.classes or ()))


@torch.no_grad()
def look(model: Classifier, x: np.ndarray) -> Seen:
    """What one seed's judge sees of its rows `(n, dim)`: features `x`, and the classes that they are `judged` to be of."""
    parts = [part[None].to(model.theta.device) for part in torch.tensor(x).split(ROWS)]
    features, found = torch.cat([model.features(part)[0] for part in parts]), [model.judged(part)[0] for part in parts]
    return {"judged": torch.cat(found).int().cpu().numpy(), "x": features.cpu().numpy()}


def looked(model: Classifier, x: np.ndarray) -> Seen:
    """The same of the rows of all seeds, `(seeds, n, dim)`, each by its own judge."""
    found = [look(model.seed(k), rows) for k, rows in enumerate(x)]
    return {name: np.stack([of_seed[name] for of_seed in found]) for name in found[0]}


def tasks(seeds: list[int], model: Classifier, train: Points, seen: Mapping[str, Seen]) -> Iterator[Task]:
    """How often the judges are right: about the test set, and about what they were trained on."""
    assert train.label is not None
    for k, seed in enumerate(seeds):
        test = {name: column[k] for name, column in seen["test"].items()}
        own, label = look(model.seed(k), train.x[k][:].numpy()), train.label[k].numpy()
        yield Task(Draw(seed), "judge_accuracy", (test["judged"] == test["label"]).mean)
        yield Task(Draw(seed), "judge_accuracy_train", (own["judged"] == label).mean)


def main(args: list[str]) -> None:
    """`python -m stages.judge NAME`, NAME a row of `judges`."""
    (name,) = args
    key, device, content, workers = f"judges.{name}", prepare(), read(), load_workers()
    judge = load(Judge, key)
    row = method(judge)
    objective, options = objective_of(content, row, key, {}), training_of(content, row, key, {})
    train = training_rows(judge.dataset, key)
    splits = {split: read_labelled(judge.dataset, "target", split) for split in HELD_OUT}
    seeds, held_out = splits["validation"]

    streams = [stream(f"judge/{name}", seed) for seed in seeds]
    finish(objective.begin, {}, key, data=train, generators=[torch.Generator() for _ in seeds])
    say = progress(f"judge {name}", options.steps)
    model, curves = fit(
        objective,
        train.to(device),
        held_out.to(device),
        streams,
        options,
        progress=lambda step, losses: say(step, "held-out loss " + " ".join(f"{loss:.4f}" for loss in losses)),
    )
    seen = {
        split: {"label": of.label.numpy(), **looked(model, of.x[:].numpy())}
        for split, (_, of) in splits.items()
        if split != "validation" and of.label is not None
    }
    write_model(places.model(judges.folder(name)), model, seeds)
    write_table(judges.curves(name), curves_table(seeds, curves))
    write_parts(judges.seen(name), split_parts(seeds, seen))
    write_measures(judges.accuracy(name), tasks(seeds, model, train, seen), workers)


if __name__ == "__main__":
    run(main)
