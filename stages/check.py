"""Check all of `params.yaml` before anything runs: every section, every name, and that they fit together.

Every generated data set depends on this stage's output, which never changes: `dvc repro` therefore comes here first
whenever the file was edited, and a mistake stops it before any work. So does a `grid.yaml` that lags behind, which is
written anew. This stage also removes what rows that are gone have left behind.
"""

import math
import shutil
from collections.abc import Mapping
from typing import Any

import torch

from rectiflow.datasets import FINITE, Dataset
from rectiflow.gradient_flows import SCHEMES
from rectiflow.gradient_flows.recovery import Recovery
from rectiflow.interpolants import INTERPOLANTS
from rectiflow.models import MODELS
from rectiflow.models.bottleneck import Bottleneck
from rectiflow.models.model import Density, Field, Model
from rectiflow.models.velocity import Velocity
from rectiflow.objectives.objective import Objective
from rectiflow.pairs import Pairs, Points
from rectiflow.predictions import PREDICTIONS
from rectiflow.samplers import SAMPLERS, Sampler
from rectiflow.training import Training
from stages.baseline import build_baselines
from stages.bound import Measured
from stages.couple import build_pairing
from stages.density import build_plan
from stages.generate import (
    Description,
    build_dataset,
    build_seeds,
    check_table,
    description,
    gaussian_source,
    parse_builtin,
)
from stages.grid import Block, Rows, Sections, expand, member, studies, write_grid
from stages.modes import Near
from stages.reflow import Reflow
from stages.report.studies.kinds import STUDIES
from stages.sample import Sample, build_samplers, serving
from stages.shared.descents import Teacher, build_descent, fitting
from stages.shared.files import write_text
from stages.shared.latents import Latents
from stages.shared.measures import shown_in
from stages.shared.movements import GradientFlow
from stages.shared.objectives import build_network, made_up, objective_of, try_begin
from stages.shared.params import GRID, PARAMS, Refused, build, finish, merged, named, parse, read
from stages.shared.places import DATA
from stages.shared.rows import Choice, Compute, Relation, Workers
from stages.shared.start import run
from stages.shared.studies import Published, Study
from stages.shared.teachers import Learning


class Params(Sections, Workers):
    """The sections of `params.yaml`."""

    seeds: list[int]
    compute: Compute
    training: dict[str, Any]
    reflow: Reflow
    sample: Sample
    density: dict[str, Any]

    def rows(self, dataset: str) -> dict[str, Any]:
        """How many rows a data set has, and all else that its section says of it; latents have those of their origin."""
        found: dict[str, Any] = getattr(self, self.kind(dataset))[self.origin(dataset)]
        return found

    def describe(self, dataset: str, content: Mapping[str, Any]) -> Description:
        """What is known of a data set before its rows are read."""
        if dataset in self.latents:
            return Description(None, (latent_size(self.latents[dataset].method, content),), False)
        kind = self.kind(dataset)
        return description(kind, self.rows(dataset), f"{kind}.{dataset}")


def latent_size(name: str, content: Mapping[str, Any]) -> int:
    """How many latents a bottleneck has."""
    begin = objective_of(content, content["methods"][name], f"methods.{name}", {})
    model = begin.begin(made_up(begin, MODELS[content["methods"][name]["model"]["name"]].example), [torch.Generator()])
    size: int = model.latent
    return size


def check(content: Mapping[str, Any]) -> Rows:
    """The rows of `grid.yaml`. Raises Refused for the first thing that is wrong."""
    params, rows = parse(Params, content, ""), expand(content)
    build_seeds(content)
    check_data(params)
    for name, row in params.couplings.items():
        build_pairing(row, f"couplings.{name}")
    check_sampling(params)
    build_plan(content, {})
    check_baselines(content, params)
    check_specs(params, "", {}, {})
    for name, method in params.methods.items():
        check_specs(params, f"methods.{name}.", method.network, method.training)
        check_method(name, content, params)
    for name, latents in params.latents.items():
        check_latents(name, latents, params)
    for name, block in params.grid.items():
        check_block(name, block, content, params)
    for name, choice in params.choices.items():
        check_choice(name, choice, params, rows)
    for name, relation in params.relations.items():
        check_relation(name, relation, content, params, rows)
    for name, flow in params.gradient_flows.items():
        check_gradient_flow(name, flow, content, params, rows)
    for name, study in studies(content).items():
        check_study(name, study, params, rows)
    return rows


def check_data(params: Params) -> None:
    """Data sets have the options they know, and tables are described in full."""
    for name, row in params.datasets.items():
        call, sizes, options = parse_builtin(row, f"datasets.{name}")
        if row["name"] not in FINITE or set(options.values()) - {None}:  # loading these costs seconds
            check_sides(finish(call, options, f"datasets.{name}"), f"datasets.{name}")
        if row["name"] not in FINITE and sizes.train is None:
            raise Refused(f"{PARAMS}: datasets.{name}.train is missing: say how many rows to draw")
    for name, row in params.tables.items():
        check_table(row, f"tables.{name}")


def check_sides(dataset: Dataset, key: str) -> None:
    """Source and target have as many dimensions."""
    dims = [getattr(side, "dim", math.prod(dataset.shape)) for side in (dataset.source, dataset.target)]
    if dims[0] != dims[1]:
        raise Refused(f"{PARAMS}: {key}: its source has {dims[0]} dimensions, and its target {dims[1]}")


def check_sampling(params: Params) -> None:
    """The samplers exist, and the two that every comparison of fields rests on are among them."""
    for k, sampler in enumerate(build_samplers(params.sample.samplers, "sample.samplers")):
        if params.sample.samplers[k] in params.sample.samplers[:k]:
            raise Refused(f"{PARAMS}: sample.samplers.{k}: {params.sample.samplers[k]!r} is there already")
        if sampler.score:
            raise Refused(
                f"{PARAMS}: sample.samplers.{k}: {sampler.label!r} needs the score, which not every model "
                f"gives: it belongs in samplers, under the name of a method"
            )
    for steps in (1, params.sample.trajectory_steps):
        if {"name": "euler", "steps": steps} not in params.sample.samplers:
            raise Refused(f"{PARAMS}: sample.samplers: {{name: euler, steps: {steps}}} is missing; the report compares it")
    sampler = named(SAMPLERS, params.reflow.sampler, "reflow.sampler")
    if sampler.score or not issubclass(Field, sampler.needs):
        raise Refused(f"{PARAMS}: reflow.sampler: {sampler.label!r} should be one that draws from every velocity field")


def check_specs(params: Params, key: str, *overrides: Mapping[str, Any]) -> None:
    """The shared network and training with those of a method, or of a method in a block, over them."""
    half = len(overrides) // 2
    build_network(merged(params.network, *overrides[:half]), f"{key}network")
    build(Training, merged(params.training, *overrides[half:]), f"{key}training")


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
    samplers, model = build_samplers(specs, f"samplers.{name}"), MODELS[method.model["name"]]
    if not any(name in block.methods for block in params.grid.values()):  # those are begun with what the blocks say
        try_begin(objective, model.example, key)
    for k, sampler in enumerate(samplers):
        where = f"samplers.{name}.{k}"
        check_serves(where, sampler, method.model["name"])
        check_sampler(where, sampler, name, objective, params)
        if sampler.label in (other.label for other in samplers[:k] if other.steps == sampler.steps):
            raise Refused(f"{PARAMS}: {where}: {sampler.label} of {sampler.steps} steps is there already")
    shared = build_samplers(params.sample.samplers, "sample.samplers")
    if not serving([*shared, *samplers], model):
        raise Refused(
            f"{PARAMS}: sample.samplers: none draws from {method.model['name']!r}, the model of {name!r}; add one of "
            f"{drawing(model)}"
        )


def check_teacher(key: str, method: Learning, params: Params) -> None:
    """Whoever is asked for velocities, or for the pairs of a round, is a velocity field of a path that is known."""
    for part in ("teacher", "reflow"):
        if (name := getattr(method, part)) is None:
            continue
        other = params.methods[name]
        if other.auto or not issubclass(MODELS[other.model["name"]], Velocity):
            raise Refused(f"{PARAMS}: {key}.{part}: {name!r} should be a method whose model is a velocity field")


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
    """The samplers that draw from a kind of model."""
    return ", ".join(name for name, sampler in SAMPLERS.items() if issubclass(model, sampler().needs))


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


def check_latents(name: str, row: Latents, params: Params) -> None:
    """They are those of a bottleneck."""
    if not issubclass(MODELS[params.methods[row.method].model["name"]], Bottleneck):
        raise Refused(
            f"{PARAMS}: latents.{name}.method: {row.method!r} has no latents; the models that have some are {bottlenecks()}"
        )


def bottlenecks() -> str:
    return ", ".join(name for name in MODELS if issubclass(MODELS[name], Bottleneck))


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
            check_source(key, dataset, each, content, params)
            check_begin(dataset, each, block, content, params)
        if block.density is not None:
            check_density(key, dataset, block, content, params)
        if block.modes is not None:
            check_modes(f"{key}.modes", dataset, block.modes, params)
    if block.bound is not None:
        check_bound(key, block, params)


def check_begin(dataset: str, name: str, block: Block, content: Mapping[str, Any], params: Params) -> None:
    """An objective can begin with the block's network, if it is on points in the shape of the data set."""
    if params.methods[name].auto:
        return
    objective = objective_of(content, content["methods"][name], f"methods.{name}", block.network)
    shape = MODELS[params.methods[name].model["name"]].example
    if objective.data is Points:
        shape = params.describe(dataset, content).shape
    rows = params.rows(dataset).get("train")
    try_begin(objective, shape, f"methods.{name}", rows if objective.data is Points and isinstance(rows, int) else None)


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
        raise Refused(f"{PARAMS}: {key}.density: {dataset!r} are latents, whose density is none of the data; leave it out")
    known = params.describe(dataset, content)
    if plan.outliers is not None:
        facts = {"dim": known.dim, "marked": known.marked, "levels": known.levels}
        finish(plan.outliers.fits, facts, f"{key}.density.outliers")
    for method in block.methods:
        model = MODELS[params.methods[method].model["name"]]
        if issubclass(model, Density):
            continue
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
    """There are more points than neighbours."""
    near, test = parse(Near, override, key), params.rows(dataset)["test"]
    if near.neighbours >= test:
        raise Refused(f"{PARAMS}: {key}.neighbours: {near.neighbours} must be less than test of {dataset}, {test}")


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


def has_gaussian_source(name: str, params: Params) -> bool:
    if name in params.latents:
        return True
    kind = params.kind(name)
    return gaussian_source(kind, getattr(params, kind)[name], f"{kind}.{name}")


def free_paths() -> str:
    return ", ".join(name for name, path in INTERPOLANTS.items() if not path.gaussian_source)


def check_choice(name: str, row: Choice, params: Params, rows: Rows) -> None:
    """Candidates that suit the data, each once; pairs that are there; a budget."""
    key = f"choices.{name}"
    check_free("choices", name, rows)
    member(f"{key}.dataset", row.dataset, params.problems)
    couples = [f"couple/{couple}" for couple, of in rows["couples"].items() if of["dataset"] == row.dataset]
    member(f"{key}.pairs", row.pairs, couples)
    methods = [f"{row.dataset}-{method}" for method, of in params.methods.items() if of.auto]
    if name not in methods:
        raise Refused(
            f"{PARAMS}: choices: {name!r} should be called {row.dataset}-METHOD, a method whose interpolant is "
            f"{{name: auto}}; there is {', '.join(methods) or 'none'}"
        )
    for k, spec in enumerate(row.candidates):
        path = named(INTERPOLANTS, spec, f"{key}.candidates.{k}")
        if spec in row.candidates[:k]:
            raise Refused(f"{PARAMS}: {key}.candidates.{k}: {spec!r} is there already")
        if path.gaussian_source and not has_gaussian_source(row.dataset, params):
            raise Refused(
                f"{PARAMS}: {key}.candidates.{k}: {spec['name']!r} needs the source N(0, I), but {row.dataset!r} has "
                f"another; paths for any source: {free_paths()}"
            )
    check_serves(f"{key}.sampler", named(SAMPLERS, row.sampler, f"{key}.sampler"), "velocity")
    check_specs(params, f"{key}.", row.network, row.training)


def check_free(part: str, name: str, rows: Rows) -> None:
    """A row beside the grid writes beside the flows, under a name of its own."""
    if name in rows["flows"]:
        raise Refused(f"{PARAMS}: {part}: {name!r} is the name of a flow; choose another")


def check_relation(name: str, row: Relation, content: Mapping[str, Any], params: Params, rows: Rows) -> None:
    """Two flows of one data set, both of independent pairs on paths that time and scale take into each other."""
    key, flows = f"relations.{name}", rows["flows"]
    member(f"{key}.dataset", row.dataset, params.problems)
    check_free("relations", name, rows)
    for field in ("first", "second"):
        flow = getattr(row, field)
        member(f"{key}.{field}", flow, [other for other, of in flows.items() if of["dataset"] == row.dataset])
        method = flows[flow]["method"]
        known = rows["samples"][flow]["independent"] and not params.methods[method].auto
        of = objective_of(content, content["methods"][method], f"methods.{method}", {}) if known else None
        path = getattr(of, "interpolant", None)
        if path is None or path.noisy:
            raise Refused(
                f"{PARAMS}: {key}.{field}: {flow!r} should be round 0 of independent pairs on a path without latent: the "
                f"points that the fields are compared at are known there alone"
            )
    if row.path:
        named(INTERPOLANTS, row.path, f"{key}.path")
    if not has_gaussian_source(row.dataset, params):
        raise Refused(
            f"{PARAMS}: {key}.dataset: {row.dataset!r} should have the source N(0, I), from which paths differ by time"
        )


def check_gradient_flow(name: str, row: GradientFlow, content: Mapping[str, Any], params: Params, rows: Rows) -> None:
    """Its data set has the densities that it needs, its scheme can follow it, and its teacher knows what is asked."""
    key, dataset = f"gradient_flows.{name}", build_dataset("datasets", params.datasets[row.dataset], row.dataset)[1]
    scheme, teacher = named(SCHEMES, row.scheme, f"{key}.scheme"), None
    if row.recover is not None:
        build(Recovery, row.recover, f"{key}.recover")
        if not scheme.downhill:
            raise Refused(f"{PARAMS}: {key}.recover: {row.scheme['name']!r} follows no potential that could be recovered")
    if row.teacher is not None:
        flows = [flow for flow, of in rows["flows"].items() if of["dataset"] == row.dataset]
        member(f"{key}.teacher", row.teacher, flows)
        if scheme.taught is None:
            raise Refused(f"{PARAMS}: {key}.teacher: {row.teacher!r} should be left out: {row.scheme['name']!r} asks nobody")
        TEACHERS[scheme.taught](key, row, row.teacher, content, params, rows)
        teacher = Teacher(unasked, unasked)
    fitting(scheme, build_descent(row, dataset, teacher, key), key)


def unasked(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """In place of a teacher that is not trained yet: whether there is one is all that is looked at."""
    raise NotImplementedError


def check_velocity(
    key: str, row: GradientFlow, teacher: str, content: Mapping[str, Any], params: Params, rows: Rows
) -> None:
    """A velocity field, from where the row sets out."""
    method = params.methods[rows["flows"][teacher]["method"]]
    if not issubclass(MODELS[method.model["name"]], Velocity):
        raise Refused(f"{PARAMS}: {key}.teacher: {teacher!r} is no velocity field")
    if row.source.get("name") != "source":
        raise Refused(f"{PARAMS}: {key}.source: {row.source!r} must be {{name: source}}, where {teacher!r} sets out from")
    if row.target != "target":
        raise Refused(f"{PARAMS}: {key}.target: {row.target!r} must be 'target', where {teacher!r} goes to")
    if teacher.endswith("round0") and not method.auto:
        name = rows["flows"][teacher]["method"]
        path = getattr(objective_of(content, content["methods"][name], f"methods.{name}", {}), "interpolant", None)
        if path is not None and abs(float(path.start(torch.ones(1))) - 1) > NEAR:
            raise Refused(
                f"{PARAMS}: {key}.teacher: {teacher!r} does not set out from the source itself, but from a scaled one"
            )


def check_score(key: str, row: GradientFlow, teacher: str, content: Mapping[str, Any], params: Params, rows: Rows) -> None:
    """A flow of independent pairs from N(0, I), on a path without latent: its velocity gives the score."""
    method = rows["flows"][teacher]["method"]
    independent = rows["samples"][teacher]["independent"] and not params.methods[method].auto
    objective = objective_of(content, content["methods"][method], f"methods.{method}", {}) if independent else None
    path = getattr(objective, "interpolant", None)
    if path is None or path.noisy or not has_gaussian_source(row.dataset, params):
        raise Refused(
            f"{PARAMS}: {key}.teacher: {teacher!r} has no score: a teacher is a flow of round 0, of independent pairs from "
            f"N(0, I), on a path without latent"
        )


NEAR = 0.01  # how much of the source a diffusion may lack where it sets out
TEACHERS = {"score": check_score, "velocity": check_velocity}


def check_study(name: str, row: Study, params: Params, rows: Rows) -> None:
    """What a section of the report compares is in the grid."""
    member(f"studies.{name}.kind", row.kind, STUDIES)
    decoded = dict.fromkeys(of["method"] for of in rows["decoded"].values())
    for dataset in row.datasets:
        member(f"studies.{name}.datasets", dataset, params.problems)
        for method in row.methods:
            member(f"studies.{name}.methods", method, [*params.methods, *decoded])
            if row.kind != "published" and f"{dataset}-{method}-round0" not in rows["flows"] | rows["decoded"]:
                raise Refused(f"{PARAMS}: studies.{name}: {dataset}-{method}-round0 is not in the grid")
    if (row.kind == "published") != bool(row.figures) or bool(row.figures) != bool(row.source):
        raise Refused(f"{PARAMS}: studies.{name}: figures and their source belong to the kind published, and it to them")
    seen: dict[str, str] = {}
    for k, figure in enumerate(row.figures):
        key = f"studies.{name}.figures.{k}"
        member(f"{key}.dataset", figure.dataset, row.datasets)
        member(f"{key}.method", figure.method, row.methods)
        flow = f"{figure.dataset}-{figure.method}-round{figure.round}"
        if flow not in rows["flows"]:
            raise Refused(f"{PARAMS}: {key}: {flow} is not in the grid")
        if (first := seen.setdefault(flow, key)) != key:
            raise Refused(f"{PARAMS}: {key}: {flow} is in {first} already; leave one of them out")
        check_published(key, figure)


def check_published(key: str, figure: Published) -> None:
    """What is published can be set beside ours, and drawn: a distance and, where it is given, its deviation."""
    for metric, (mean, *deviation) in figure.values.items():
        member(f"{key}.values", metric, shown_in("published"))
        if mean <= 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the mean {mean:g} should be greater than 0")
        if deviation and deviation[0] < 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the deviation {deviation[0]:g} should not be negative")


def prune(content: Mapping[str, Any], rows: Rows) -> None:
    """Remove what rows left behind that are gone: the report depends on whole folders, and not on what was there once.

    Nothing is lost: DVC's cache has it, and brings it back with the row.
    """
    problems, flows = {**content["datasets"], **content["tables"], **rows["encoded"]}, rows["flows"]
    drawn = {**flows, **rows["decoded"]}
    kept = {
        "generate": problems,
        "floor": problems,
        "couple": rows["couples"],
        "reflow": {**rows["reflows"], **rows["until"]},
        "train": {**flows, **content["choices"]},
        "sample": drawn,
        "evaluate": {**drawn, **content["relations"], "density": {}, "modes": {}, "bound": {}, "baseline": {}, "jko": {}},
        "evaluate/density": rows["densities"],
        "evaluate/modes": rows["modes"],
        "evaluate/bound": rows["bounds"],
        "evaluate/baseline": rows["baselined"],
        "evaluate/jko": rows["movements"],
    }
    for stage, names in kept.items():
        for path in (DATA / stage).glob("[!.]*"):
            if path.name.removesuffix(".parquet") not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(_: list[str]) -> None:
    """`python -m stages.check`"""
    rows = check(read())
    if write_grid():
        raise Refused(f"{GRID} did not follow from {PARAMS} any more and is written anew: run the same command again")
    prune(read(), rows)
    write_text(DATA / "checked", "ok\n")


if __name__ == "__main__":
    run(main)
