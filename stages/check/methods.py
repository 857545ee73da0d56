"""Checks of methods, and of what draws from their models."""

from collections.abc import Mapping
from dataclasses import fields, replace
from inspect import signature
from typing import Any

from rectiflow.ctmc import Ctmc
from rectiflow.guidance import Guidance
from rectiflow.interpolants import INTERPOLANTS
from rectiflow.models import MODELS
from rectiflow.models.bottleneck import Bottleneck
from rectiflow.models.model import Field, Model
from rectiflow.models.velocity import Velocity
from rectiflow.objectives import OBJECTIVES
from rectiflow.objectives.objective import Objective
from rectiflow.one_by_one import OneByOne
from rectiflow.pairs import Pairs, Points
from rectiflow.predictions import PREDICTIONS
from rectiflow.samplers import SAMPLERS, Sampler
from rectiflow.token_sources import SOURCES
from stages.check.params import Params, has_gaussian_source
from stages.sample import build_samplers, serving
from stages.shared.objectives import FEW, objective_of, sees_pictures, try_begin
from stages.shared.params import PARAMS, Refused, merged, named
from stages.shared.teachers import Learning

GUIDED = Ctmc | OneByOne  # samplers of tokens, which take a scale


def check_sampling(params: Params) -> None:
    """The samplers exist, and where there are fields the two that every comparison of these rests on are among them."""
    for k, sampler in enumerate(build_samplers(params.sample.samplers, "sample.samplers")):
        if params.sample.samplers[k] in params.sample.samplers[:k]:
            raise Refused(f"{PARAMS}: sample.samplers.{k}: {params.sample.samplers[k]!r} is there already")
        if sampler.score:
            raise Refused(
                f"{PARAMS}: sample.samplers.{k}: {sampler.label!r} needs the score, which not every model "
                f"gives: it belongs in samplers, under the name of a method"
            )
    flows = any(issubclass(MODELS[method.model["name"]], Field) for method in params.methods.values())
    for steps in (1, params.sample.trajectory_steps) if flows else ():
        if {"name": "euler", "steps": steps} not in params.sample.samplers:
            raise Refused(f"{PARAMS}: sample.samplers: {{name: euler, steps: {steps}}} is missing; the report compares it")
    sampler = named(SAMPLERS, params.reflow.sampler, "reflow.sampler")
    if sampler.score or not issubclass(Field, sampler.needs):
        raise Refused(f"{PARAMS}: reflow.sampler: {sampler.label!r} should be one that draws from every velocity field")


def check_method(name: str, content: Mapping[str, Any], params: Params) -> None:
    """All of it exists and fits together: what it is trained on, its model, and what draws from that."""
    key, method, specs = f"methods.{name}", params.methods[name], params.samplers.get(name, [])
    if method.auto:
        check_auto(name, method, specs)
        return
    check_teacher(key, method, params)
    objective = objective_of(content, content["methods"][name], key, {})
    if objective.data is Pairs and method.coupling is None and method.reflow is None:
        raise Refused(
            f"{PARAMS}: {key}.coupling is missing: {method.objective!r} trains on pairs; the choices are "
            f"{', '.join(params.couplings)}"
        )
    given = {"coupling": method.coupling, "reflow": method.reflow}
    for part, value in given.items():
        if objective.data is Points and value is not None:
            raise Refused(f"{PARAMS}: {key}.{part}: {value!r} should be left out: {method.objective!r} trains on points")
    check_pairs(key, method, objective, params)
    check_model(key, method)
    samplers, model = build_samplers(specs, f"samplers.{name}"), MODELS[method.model["name"]]
    used = any(name in block.methods for block in params.grid.values())  # those are begun with what the blocks say
    if not used and not sees_pictures(merged(params.network, method.network)["name"]):
        few = FEW if model.whole else 1
        try_begin(objective, example(method), key, conditions=few, vocabulary=model.example_vocabulary)
    for k, sampler in enumerate(samplers):
        where = f"samplers.{name}.{k}"
        check_serves(where, sampler, method.model["name"])
        check_sampler(where, sampler, name, objective, params)
        check_token_sampler(where, sampler, name, params)
        if sampler.label in (other.label for other in samplers[:k] if other.steps == sampler.steps):
            raise Refused(f"{PARAMS}: {where}: {sampler.label} of {sampler.steps} steps is there already")
    shared = build_samplers(params.sample.samplers, "sample.samplers")
    for k, sampler in enumerate(shared):
        if serving([sampler], model):
            check_token_sampler(f"sample.samplers.{k}", sampler, name, params)
    if model.conditional:
        check_guidance(name, serving([*shared, *samplers], model), params)
    if not serving([*shared, *samplers], model):
        raise Refused(
            f"{PARAMS}: sample.samplers: none draws from {method.model['name']!r}, the model of {name!r}; add one of "
            f"{drawing(model)}"
        )


def check_pairs(key: str, method: Learning, objective: Objective, params: Params) -> None:
    """The points of a pair are independent where only then the objective's minimum is what it is for."""
    if not getattr(objective, "independent", False):
        return
    free = [name for name, row in params.couplings.items() if row["name"] == "independent"]
    for part, value in {"reflow": method.reflow, "coupling": method.coupling}.items():
        if value is not None and value not in free:
            raise Refused(
                f"{PARAMS}: {key}.{part}: {value!r} gives pairs whose points depend on each other, of which "
                f"{method.objective!r} learns no score; it needs a coupling {{name: independent}}"
                + (f", such as {free[0]}" if free else "")
            )


def check_model(key: str, method: Learning) -> None:
    """A model has options of its own where its objective does not make it."""
    objective = OBJECTIVES[method.objective]
    if "model" in signature(objective).parameters:
        return
    for option, value in method.model.items():
        if option != "name":
            raise Refused(
                f"{PARAMS}: {key}.model.{option}: {value!r} should be left out: {method.objective!r} makes the model; its "
                f"own options belong in {key}"
            )


def check_token_sampler(key: str, sampler: Sampler, name: str, params: Params) -> None:
    """One that draws token after token has a source that shows what is known, and one that is guided what to go by."""
    row = params.methods[name].model
    source = row.get("source", "masked")
    if getattr(sampler, "shown", False) and source in SOURCES and not SOURCES[source].shows:
        raise Refused(
            f"{PARAMS}: {key}: {sampler.label!r} draws one token after the other, and from the source {source!r}, that of "
            f"{name!r}, they come in no order; take ctmc, or the source masked"
        )
    if isinstance(sampler, GUIDED) and sampler.scale != 1 and not MODELS[row["name"]].conditional:
        raise Refused(
            f"{PARAMS}: {key}.scale: {sampler.scale:g} goes beyond what is asked for, and {name!r} is asked nothing"
        )


def check_guidance(name: str, samplers: list[Sampler], params: Params) -> None:
    """A model that is guided was trained without its conditions, too."""
    for sampler in samplers:
        if isinstance(sampler, Guidance | GUIDED) and sampler.scale != 1 and params.methods[name].model.get("dropout") == 0:
            raise Refused(
                f"{PARAMS}: methods.{name}.model.dropout: 0 should be greater: {sampler.label!r} needs the field without a "
                f"condition"
            )


def example(method: Learning) -> tuple[int, ...]:
    """The shape of arrays that a method's model can be begun on: a bottleneck's are no narrower than its latents."""
    model, latent = MODELS[method.model["name"]], method.model.get("latent", 0)
    return (max(*model.example, latent),) if issubclass(model, Bottleneck) and isinstance(latent, int) else model.example


def check_teacher(key: str, method: Learning, params: Params) -> None:
    """Whoever is asked for velocities, or for the pairs of a round, is a velocity field of a path that is known."""
    for part in ("teacher", "reflow"):
        if (name := getattr(method, part)) is None:
            continue
        other = params.methods[name]
        if other.auto or not issubclass(MODELS[other.model["name"]], Velocity):
            raise Refused(f"{PARAMS}: {key}.{part}: {name!r} should be a method whose model is a velocity field")
    if method.teacher is not None:
        check_conditions(f"{key}.teacher", method, params.methods[method.teacher])


def check_conditions(key: str, method: Learning, teacher: Learning) -> None:
    """Both teacher and pupil are told the condition of a row, or neither is."""
    told = [MODELS[row.model["name"]].conditional for row in (method, teacher)]
    if told[0] != told[1]:
        said = ["is told no condition", "is told the condition of a row"]
        raise Refused(
            f"{PARAMS}: {key}: the model {teacher.model['name']!r} of {method.teacher!r} {said[told[1]]}, but "
            f"{method.model['name']!r} {said[told[0]]}"
        )


def check_auto(name: str, method: Learning, specs: list[dict[str, Any]]) -> None:
    """A path that is not known yet allows nothing that depends on it."""
    options = method.model_extra or {}
    for where, value, right in (
        (f"methods.{name}.prediction", options.get("prediction", "velocity"), "velocity"),
        (f"samplers.{name}", specs, []),
        (f"methods.{name}.interpolant", options["interpolant"], {"name": "auto"}),
    ):
        if value != right:
            raise Refused(f"{PARAMS}: {where}: {value!r} should be {right!r}: the path 'auto' is not known yet")
    if unknown := sorted(set(options) - {"interpolant", "prediction"}):
        raise Refused(f"{PARAMS}: methods.{name}.{unknown[0]}: {options[unknown[0]]!r}: unknown key")


def check_serves(key: str, sampler: Sampler, name: str) -> None:
    """The model is of the kind that a sampler draws from."""
    if not issubclass(MODELS[name], sampler.needs):
        fit = drawing(MODELS[name])
        raise Refused(f"{PARAMS}: {key}: {sampler.label!r} cannot draw from {name!r}; the choices are {fit}")


def drawing(model: type[Model]) -> str:
    """The samplers that draw from a kind of model, each as it is or with the option that it needs for that."""
    fit = ([said for said, sampler in ways(name).items() if issubclass(model, sampler.needs)] for name in SAMPLERS)
    return ", ".join(said[0] for said in fit if said)


def ways(name: str) -> dict[str, Sampler]:
    """A sampler as it is, and with each of its options that are on or off, by what says so."""
    plain = SAMPLERS[name]()
    switches = [of.name for of in fields(plain) if of.default is False]
    return {name: plain} | {f"{name} with {switch}: true": replace(plain, **{switch: True}) for switch in switches}


def check_sampler(key: str, sampler: Sampler, name: str, objective: Objective, params: Params) -> None:
    """One that goes by the score has one to go by, and its first step is finite."""
    path, coupling = getattr(objective, "interpolant", None), params.methods[name].coupling
    independent = coupling is not None and params.couplings[coupling]["name"] == "independent"
    if sampler.score and (path is None or path.noisy or not independent):
        raise Refused(
            f"{PARAMS}: {key}: {sampler.label!r} needs the score, which the velocity gives for independent "
            f"pairs on a path without latent alone; {name} has {coupling!r} and {path}"
        )
    if path is not None and not sampler.starts(path):
        raise Refused(
            f"{PARAMS}: {key}: {sampler.label!r} is infinite at the start of {path}, where nothing of "
            f"the data is left: use another noise, or a diffusion (vp_sde, ddpm, ve)"
        )


def check_source(key: str, dataset: str, name: str, content: Mapping[str, Any], params: Params) -> None:
    """An objective, a path, a prediction or a sampler that only exists for a Gaussian source needs one."""
    method, row = params.methods[name], content["methods"][name]
    if method.auto:  # its candidates were looked at
        return
    objective = objective_of(content, row, f"methods.{name}", {})
    samplers = build_samplers(params.samplers.get(name, []), f"samplers.{name}")
    path, prediction = getattr(objective, "interpolant", None), getattr(objective, "prediction", None)
    if path is not None and path.gaussian_source:
        uses = f"the path {row['interpolant']['name']!r}"
    elif prediction is not None and PREDICTIONS[prediction].gaussian_source:
        uses = f"the prediction {prediction!r}"
    elif objective.gaussian_source:
        uses = f"the objective {method.objective!r}"
    elif any(sampler.score for sampler in samplers):
        uses = f"the sampler {next(sampler.label for sampler in samplers if sampler.score)!r}"
    else:
        return
    if not has_gaussian_source(dataset, params):
        free = f"; paths for any source: {free_paths()}, with the prediction velocity and no samplers" if path else ""
        raise Refused(
            f"{PARAMS}: {key}.methods: {name!r} uses {uses}, which needs the source N(0, I), but {dataset!r} has "
            f"another{free}"
        )


def free_paths() -> str:
    return ", ".join(name for name, path in INTERPOLANTS.items() if not path.gaussian_source)
