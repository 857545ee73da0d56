"""What a row of `methods` asks for, as the library's objects: objective, model and network."""

import math
from collections.abc import Mapping
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Generator

from rectiflow.models import MODELS
from rectiflow.models.model import Field, Model
from rectiflow.models.record import OWN
from rectiflow.networks import NETWORKS
from rectiflow.networks.network import Build
from rectiflow.objectives import OBJECTIVES
from rectiflow.objectives.objective import Objective
from rectiflow.pairs import Pairs, Points
from rectiflow.token_laws import uniform
from rectiflow.training import Training
from stages.shared.params import PARAMS, Refused, Settings, build, composed, finish, lookup, merged, name_in, section
from stages.shared.teachers import Keys, teacher_row

GIVEN = (*OWN, "path", "prediction", "conditions", "vocabulary")  # of a model's fields, those that its objective gives it
SIZES = (
    "inputs",
    "outputs",
    "sides",
    "vocabulary",
    "causal",
    "fused",
)  # of a network's, those that a model and an objective give it


def build_network(spec: Any, key: str) -> Build:
    """A network of which all is known but how many numbers go in and come out."""
    call, rest = lookup(NETWORKS, spec, key)
    _, options = composed(Settings, call, rest, key, SIZES)
    finish(call, options, key, inputs=1, outputs=1)
    return partial(call, **options)


def sees_pictures(network: str) -> bool:
    """Whether a network has to be told what a row is a picture of."""
    return "sides" in signature(NETWORKS[network]).parameters


def build_objective(row: Mapping[str, Any], network: Build, key: str, teacher: Field | None = None) -> Objective:
    """The objective of a row of `methods`, its keys checked. Raises Refused in one line."""
    name = row.get("objective", "matching")
    name_in(OBJECTIVES, {"name": name}, f"{key}.objective")
    call = OBJECTIVES[name]
    _, options = composed(Keys, call, row, key, ("network", "model", "teacher"), getattr(call, "parts", {}))
    given = {"network": network, "model": build_model(call, row, key), "teacher": teacher}
    wanted = signature(call).parameters
    if teacher and "teacher" not in wanted:
        raise Refused(f"{PARAMS}: {key}.teacher: {row['teacher']!r} should be left out: {name!r} asks nobody")
    return finish(call, options, key, **{name: part for name, part in given.items() if name in wanted})


def build_model(objective: Any, row: Mapping[str, Any], key: str) -> Any:
    """How a row's model begins; it is one that the objective can train."""
    spec = row.get("model", Keys.model_fields["model"].default)
    call, rest = lookup(MODELS, spec, f"{key}.model")
    if not trained_by(objective, call):
        fit = [name for name in MODELS if trained_by(objective, MODELS[name])]
        raise Refused(
            f"{PARAMS}: {key}.model.name: {spec['name']!r} is not trained by {row.get('objective', 'matching')!r}, which "
            f"trains {', '.join(fit)}"
        )
    _, options = composed(Settings, call, rest, f"{key}.model", GIVEN, call.parts)
    return partial(getattr(call, "begin", call), **options)


def trained_by(objective: Any, model: type[Model]) -> bool:
    """Whether an objective trains a kind of model: where it does not ask how a model begins, it knows one kind alone."""
    asks = "model" in signature(objective).parameters
    return issubclass(model, objective.trains) if asks else model is objective.trains


def objective_of(
    content: Mapping[str, Any],
    row: Mapping[str, Any],
    key: str,
    override: Mapping[str, Any],
    teacher: Field | None = None,
) -> Objective:
    """The objective of a row of `methods`; `override` is what a row of the grid says of its network. Where the row has a
    teacher and none is given, an untrained one takes its place.
    """
    network = build_network(merged(section(content, "network"), row.get("network", {}), override), f"{key}.network")
    return build_objective(row, network, key, teacher or untrained(content, row))


def untrained(content: Mapping[str, Any], row: Mapping[str, Any]) -> Field | None:
    """What a row's teacher is before it is trained, on made-up points; as its path is all that is asked, by any network."""
    if (other := teacher_row(content, row)) is None:
        return None
    objective = build_objective(other, NETWORKS["mlp"], f"methods.{row['teacher']}")
    model: Field = objective.begin(made_up(objective, (2,)), [Generator().manual_seed(0)])
    return model


def training_of(content: Mapping[str, Any], row: Mapping[str, Any], key: str, override: Mapping[str, Any]) -> Training:
    """How it is trained, likewise."""
    return build(Training, merged(section(content, "training"), row.get("training", {}), override), f"{key}.training")


def try_begin(
    objective: Objective,
    shape: tuple[int, ...],
    key: str,
    rows: int | None = None,
    conditions: int = 1,
    vocabulary: tuple[int, ...] = (),
) -> Model:
    """The model of one seed as it begins on a few made-up rows, no more than there are, with so many numbers of a condition,
    of tokens where there is a vocabulary: what cannot be for arrays of this shape raises Refused here.
    """
    data = made_up(objective, shape, FEW if rows is None else min(rows, FEW), conditions, vocabulary)
    model: Model = finish(objective.begin, {}, key, data=data, generators=[Generator().manual_seed(0)])
    return model


FEW = 8


def made_up(
    objective: Objective,
    shape: tuple[int, ...],
    rows: int = FEW,
    conditions: int = 1,
    vocabulary: tuple[int, ...] = (),
) -> Points | Pairs:
    """A few rows of the kind that an objective trains on, of classes that tell as much."""
    rows, generator = max(rows, conditions), Generator().manual_seed(0)  # one of each class
    label = torch.arange(rows)[None] % conditions if conditions else None
    known: dict[str, Any] = {"label": label, "shape": shape, "classes": conditions}
    if vocabulary:
        return Points(uniform(vocabulary).sample(rows, generator).long()[None], **known, vocabulary=vocabulary)
    x = torch.randn(1, rows, math.prod(shape), generator=generator)
    ends: dict[str, Any] = {"x": x} if objective.data is Points else {"x0": x, "x1": x}
    return objective.data(**ends, **known)
