"""Checks of judges, and of the blocks whose draws they see."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator

from rectiflow.pairs import Points
from stages.check.params import Params, check_specs
from stages.features import Among
from stages.judge import method
from stages.shared.judges import Asked, Judge
from stages.shared.objectives import objective_of
from stages.shared.params import PARAMS, Refused, finish, parse


def check_judge(name: str, judge: Judge, content: Mapping[str, Any], params: Params) -> None:
    """Its data set has classes, which its network can tell, and its name is that of no method, beside whose numbers its own
    stand.
    """
    key = f"judges.{name}"
    if name in params.methods:
        raise Refused(f"{PARAMS}: judges: {name!r} is the name of a method; choose another")
    if params.of_tokens(judge.dataset):
        raise Refused(f"{PARAMS}: {key}.dataset: the rows of {judge.dataset!r} are tokens; judges see real numbers")
    known = params.describe(judge.dataset, content)
    if not known.classes:
        raise Refused(f"{PARAMS}: {key}.dataset: {judge.dataset!r} has no classes to tell; take a data set with labels")
    check_specs(params, f"{key}.", judge.network, judge.training)
    objective = objective_of(content, method(judge), key, {})
    label = torch.arange(known.classes)[None]
    x = torch.randn(1, known.classes, known.dim, generator=Generator().manual_seed(0))
    data = Points(x, label, known.shape, known.classes)
    finish(objective.begin, {}, key, data=data, generators=[Generator().manual_seed(0)])


def check_features(key: str, dataset: str, option: Mapping[str, Any], params: Params) -> None:
    """The judge is one of this data set, or of what these latents are of, and there are more points than neighbours."""
    asked, origin = parse(Asked, option, key), params.origin(dataset)
    if (other := params.judges[asked.judge].dataset) != origin:
        raise Refused(f"{PARAMS}: {key}.judge: {asked.judge!r} tells the classes of {other!r}, and not of {origin!r}")
    check_neighbours(key, dataset, parse(Among, asked.override, key).neighbours, params)


def check_neighbours(key: str, dataset: str, neighbours: int, params: Params) -> None:
    """There are more points than neighbours."""
    if neighbours >= (test := params.rows(dataset)["test"]):
        raise Refused(f"{PARAMS}: {key}.neighbours: {neighbours} must be less than test of {dataset}, {test}")
