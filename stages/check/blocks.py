"""Checks of the blocks of the grid, and of what they have measured."""

from collections.abc import Mapping
from typing import Any

import torch

from rectiflow.models import MODELS
from rectiflow.models.bottleneck import Bottleneck
from rectiflow.models.encoder import Encoder
from rectiflow.models.model import Density, Field
from rectiflow.models.velocity import Velocity
from rectiflow.pairs import Points
from rectiflow.parts import check_parts
from rectiflow.systems import SYSTEMS
from stages.baseline import build_baselines
from stages.bound import Measured
from stages.check.data import bottlenecks, encoders
from stages.check.judges import check_features, check_neighbours
from stages.check.methods import check_source
from stages.check.params import Params, check_specs
from stages.density import build_plan
from stages.generate import Description
from stages.modes import Near
from stages.shared.blocks import Block, network
from stages.shared.given import Cells
from stages.shared.objectives import objective_of, sees_pictures, try_begin
from stages.shared.params import PARAMS, Refused, Settings, finish, parse
from stages.shared.rollouts import Rolled
from stages.tokens import Measured as Tokens


def check_block(name: str, block: Block, content: Mapping[str, Any], params: Params) -> None:
    """Overrides are valid, there are source points enough for rounds, and the methods suit the data."""
    key = f"grid.{name}"
    for method in (params.methods[name] for name in block.methods):
        check_specs(params, f"{key}.", method.network, block.network, method.training, block.training)
        if block.last and not issubclass(kind := MODELS[method.model["name"]], Velocity):
            raise Refused(f"{PARAMS}: {key}.rounds: {block.last}: {kind.__name__} is no velocity field, and has no rounds")
    if block.until is not None and len(params.seeds) < 2:
        raise Refused(f"{PARAMS}: {key}.until: {block.until} needs two seeds or more, to tell a gain from chance")
    for dataset in block.datasets:
        pool, needed = params.rows(dataset)["pool"], params.reflow.pairs + params.reflow.validation
        if block.last and needed > pool:
            raise Refused(f"{PARAMS}: reflow.pairs + reflow.validation: {needed} is more than the pool of {dataset}, {pool}")
        for each in block.methods:
            check_rows(key, dataset, each, params)
            check_source(key, dataset, each, content, params)
            check_classes(key, dataset, each, content, params)
            check_begin(dataset, each, block, content, params)
        if block.density is not None:
            check_density(key, dataset, block, content, params)
        if block.modes is not None:
            check_modes(f"{key}.modes", dataset, block.modes, params)
        if block.features is not None:
            check_features(f"{key}.features", dataset, block.features, params)
        if block.tokens is not None:
            check_tokens(f"{key}.tokens", dataset, block.tokens, params)
        if block.given is not None:
            check_given(key, dataset, block, content, params)
        if block.rollouts is not None:
            check_rollouts(key, dataset, block, content, params)
    if block.bound is not None:
        check_bound(key, block, params)
    if block.collapse is not None:
        check_collapse(key, block, params)


def check_rows(key: str, dataset: str, name: str, params: Params) -> None:
    """Models of tokens are trained on tokens, and others on real numbers."""
    kind, tokens = params.methods[name].model["name"], params.of_tokens(dataset)
    if tokens != bool(MODELS[kind].example_vocabulary):
        are, others = ("tokens", "real numbers") if tokens else ("real numbers", "tokens")
        raise Refused(
            f"{PARAMS}: {key}.methods: {name!r}: {kind!r} is a model of {others}, and the rows of {dataset!r} are {are}"
            f"{f'; models of those are {of_tokens()}' if tokens else ''}"
        )


def of_tokens() -> str:
    return ", ".join(name for name in MODELS if MODELS[name].example_vocabulary)


def check_tokens(key: str, dataset: str, override: Mapping[str, Any], params: Params) -> None:
    """What a block measures are tokens."""
    parse(Tokens, override, key)
    if not params.of_tokens(dataset):
        raise Refused(f"{PARAMS}: {key}: the rows of {dataset!r} are real numbers, not tokens; leave it out")


def check_classes(key: str, dataset: str, name: str, content: Mapping[str, Any], params: Params) -> None:
    """What is coupled by class has classes."""
    coupling = params.methods[name].coupling
    if coupling and params.couplings[coupling].get("by_class") and not params.describe(dataset, content).classes:
        raise Refused(
            f"{PARAMS}: {key}.methods: {name!r} has the coupling {coupling!r}, by_class, and {dataset!r} has no classes"
        )


def check_begin(dataset: str, name: str, block: Block, content: Mapping[str, Any], params: Params) -> None:
    """An objective can begin with the block's network, if it is on points in the shape of the data set."""
    if params.methods[name].auto:
        return
    key, model = f"methods.{name}", MODELS[params.methods[name].model["name"]]
    objective = objective_of(content, content["methods"][name], key, block.network)
    pictures = sees_pictures(network(params, name, block)["name"])
    if not (objective.data is Points or pictures or model.conditional):  # no need to know the data, which takes a while
        try_begin(objective, model.example, key)
        return
    known, rows = params.describe(dataset, content), params.rows(dataset).get("train")
    few = rows if objective.data is Points and isinstance(rows, int) else None
    if model.conditional:
        check_conditions(dataset, name, known, params)
    try_begin(objective, known.shape, key, few, known.conditions, known.vocabulary)


def check_conditions(dataset: str, name: str, known: Description, params: Params) -> None:
    """There are conditions, and source points do not depend on them: a plan that pairs points of all classes would tell the
    class by x0.
    """
    if not known.conditions:
        raise Refused(
            f"{PARAMS}: methods.{name}.model: {params.methods[name].model['name']!r} needs classes or conditions, and "
            f"{dataset!r} has none of them"
        )
    if MODELS[model := params.methods[name].model["name"]].whole and (known.classes or not known.whole):
        raise Refused(
            f"{PARAMS}: methods.{name}.model: {model!r} needs next states, with the state before and an action as "
            f"condition: {dataset!r} should be transitions with `whole: true`"
        )
    coupling = params.methods[name].coupling
    row = params.couplings[coupling] if coupling else {"name": "independent"}
    if row["name"] != "independent" and known.condition:
        raise Refused(
            f"{PARAMS}: couplings.{coupling}.name: {row['name']!r} should be independent for {name!r}, whose model is "
            f"given the conditions of {dataset!r}: plans tell them by the source"
        )
    if row["name"] != "independent" and not row.get("by_class"):
        raise Refused(
            f"{PARAMS}: couplings.{coupling}.by_class: false should be true for {name!r}, whose model is conditional: plans "
            f"across classes tell them by the source"
        )


def check_baselines(content: Mapping[str, Any], params: Params) -> None:
    """Detectors exist, and none has the name of a method, beside whose numbers its own stand."""
    for name in build_baselines(content):
        if name in params.methods:
            raise Refused(f"{PARAMS}: baselines: {name!r} is the name of a method; choose another")


def check_density(key: str, dataset: str, block: Block, content: Mapping[str, Any], params: Params) -> None:
    """What a block measures has a density, and one that the section `density` can work out."""
    assert block.density is not None
    plan = build_plan(content, block.density, f"{key}.density" if block.density else "density")
    if dataset in params.latents:
        raise Refused(
            f"{PARAMS}: {key}.density: {dataset!r} are latents, whose density is not that of the data; leave it out"
        )
    known = params.describe(dataset, content)
    if plan.outliers is not None:
        facts = {"dim": known.dim, "marked": known.marked, "levels": known.levels}
        finish(plan.outliers.fits, facts, f"{key}.density.outliers")
    for method in block.methods:
        model = MODELS[params.methods[method].model["name"]]
        if issubclass(model, Density) and not model.conditional:
            continue
        if issubclass(model, Density):
            raise Refused(
                f"{PARAMS}: {key}.density: {model.__name__}, the model of {method!r}, has a density given a condition "
                f"alone, which is not measured; leave it out"
            )
        if not issubclass(model, Field):
            raise Refused(
                f"{PARAMS}: {key}.density: {model.__name__}, the model of {method!r}, has no density; leave it out"
            )
        if known.source is None:
            raise Refused(
                f"{PARAMS}: {key}.density: the source of {dataset!r} has no known density, and so have the flows of "
                f"{method!r}; leave it out, or take a data set from N(0, I)"
            )
        probe = {"x": torch.zeros(1, known.dim), "generator": torch.Generator()}
        finish(plan.divergence.directions, probe, f"{key}.density.divergence")


def check_modes(key: str, dataset: str, override: Mapping[str, Any], params: Params) -> None:
    """There are more points than neighbours, and near ones among them."""
    if params.of_tokens(dataset):
        raise Refused(f"{PARAMS}: {key}: the rows of {dataset!r} are tokens, none of which is near to another; leave it out")
    check_neighbours(key, dataset, parse(Near, override, key).neighbours, params)


def check_conditional(key: str, block: Block, params: Params) -> None:
    """What is given conditions has learned some."""
    for method in block.methods:
        name = params.methods[method].model["name"]
        if not MODELS[name].conditional:
            fit = ", ".join(name for name in MODELS if MODELS[name].conditional)
            raise Refused(f"{PARAMS}: {key}: {name!r}, the model of {method!r}, is given no condition; take one of {fit}")


def check_given(key: str, dataset: str, block: Block, content: Mapping[str, Any], params: Params) -> None:
    """What a block measures is given conditions, and there are rows for every cell."""
    assert block.given is not None
    if params.of_tokens(dataset):
        raise Refused(f"{PARAMS}: {key}.given: the rows of {dataset!r} are tokens, which have no distance; leave it out")
    check_conditional(f"{key}.given", block, params)
    settings, known = parse(Cells, block.given, f"{key}.given"), params.describe(dataset, content)
    finish(check_parts, {"parts": settings.parts, "rows": params.rows(dataset)["test"]}, f"{key}.given")
    if known.classes and known.condition:
        raise Refused(f"{PARAMS}: {key}.given: {dataset!r} has classes and conditions; cells are made by one of both")


def check_rollouts(key: str, dataset: str, block: Block, content: Mapping[str, Any], params: Params) -> None:
    """What a block rolls out is given conditions, those of a system that can be asked what is next."""
    assert block.rollouts is not None
    check_conditional(f"{key}.rollouts", block, params)
    parse(Rolled, block.rollouts, f"{key}.rollouts")
    if dataset not in params.datasets or content["datasets"][dataset].get("name") not in SYSTEMS:
        raise Refused(
            f"{PARAMS}: {key}.rollouts: {dataset!r} is no system to compare roll-outs with; those are data sets of "
            f"{', '.join(SYSTEMS)}"
        )


def check_collapse(key: str, block: Block, params: Params) -> None:
    """What a block measures has latents."""
    assert block.collapse is not None
    parse(Settings, block.collapse, f"{key}.collapse")
    for method in block.methods:
        if not issubclass(model := MODELS[params.methods[method].model["name"]], Encoder):
            raise Refused(
                f"{PARAMS}: {key}.collapse: {model.__name__}, the model of {method!r}, has no latents; leave it out, or "
                f"take methods of {encoders()}"
            )


def check_bound(key: str, block: Block, params: Params) -> None:
    """What a block measures has bounds."""
    assert block.bound is not None
    parse(Measured, block.bound, f"{key}.bound")
    for method in block.methods:
        model = MODELS[params.methods[method].model["name"]]
        if not issubclass(model, Bottleneck):
            raise Refused(
                f"{PARAMS}: {key}.bound: {model.__name__}, the model of {method!r}, has no bound; leave it out, or take "
                f"methods of {bottlenecks()}"
            )
