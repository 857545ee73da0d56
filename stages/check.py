"""Check all of `params.yaml` before anything runs: every section, every name, and that they fit together.

Every generated data set depends on this stage's output, which never changes: `dvc repro` therefore comes here first
whenever the file was edited, and a mistake stops it before any work. What rows left behind that are gone is removed.
"""

import re
import shutil
from collections.abc import Mapping
from typing import Any

from rectiflow.interpolants import INTERPOLANTS
from rectiflow.predictions import PREDICTIONS
from rectiflow.solvers import SOLVERS
from rectiflow.training import Training
from stages.couple import build_pairing
from stages.generate import build_dataset, build_seeds, parse_builtin, parse_table
from stages.reflow import Reflow
from stages.sample import Sample, build_samplers, build_solvers
from stages.shared.io import DATA, write_text
from stages.shared.params import PARAMS, Refused, build, finish, merged, named, parse, read
from stages.shared.rows import Choice, Compute, Couple, Flow, Method, Published, Relation, Study, Workers
from stages.shared.start import run
from stages.train import build_interpolant, build_network, specs

NAMED = ("datasets", "tables", "couplings", "methods", "couples", "flows", "reflows", "until", "choices", "relations")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
ROUND = re.compile(r"(?P<base>.+)-round(?P<k>0|[1-9][0-9]*)")


METRICS = ("w2", "npe")  # what is published of a flow and measured here


class Params(Workers):
    """The sections of `params.yaml`."""

    seeds: list[int]
    compute: Compute
    datasets: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, Any]]
    couplings: dict[str, dict[str, Any]]
    network: dict[str, Any]
    training: dict[str, Any]
    methods: dict[str, Method]
    reflow: Reflow
    sample: Sample
    couples: dict[str, Couple]
    round0: dict[str, Flow]
    reflows: dict[str, Flow]
    until: dict[str, Flow]
    flows: dict[str, Flow]
    choices: dict[str, Choice]
    relations: dict[str, Relation]
    studies: dict[str, Study]


def check(content: Mapping[str, Any]) -> None:
    """Raise Refused for the first thing that is wrong."""
    params = parse(Params, content, "")
    build_seeds(content)
    for part in NAMED:
        check_names(part, content[part])
    for name, row in params.datasets.items():
        call, sizes, options = parse_builtin(row, f"datasets.{name}")
        if row["name"] != "digits":  # it has no options, and loading it costs seconds
            finish(call, options, f"datasets.{name}")
            if sizes.train is None:
                raise Refused(f"{PARAMS}: datasets.{name}.train is missing: say how many rows to draw")
    for name, row in params.tables.items():
        if name in params.datasets:
            raise Refused(f"{PARAMS}: tables.{name}: {name!r} is already a name in datasets; choose another")
        parse_table(row, f"tables.{name}")
    for name, row in params.couplings.items():
        build_pairing(row, f"couplings.{name}")
        if name.split("-")[0] != row["name"]:  # what holds for a kind of pairs is told from their name
            raise Refused(f"{PARAMS}: couplings: {name!r} should be called {row['name']} or {row['name']}-SOMETHING")
    check_sampling(params)
    check_couples(params)
    for name, method in params.methods.items():
        member(f"methods.{name}.coupling", method.coupling, params.couplings)
        check_method(f"methods.{name}", method)
    if params.flows != params.round0 | params.reflows | params.until:
        raise Refused(
            f"{PARAMS}: flows: should be the rows of round0, reflows and until together: {{<<: [*round0, *reflows, *until]}}"
        )
    if params.until and len(params.seeds) < 2:
        raise Refused(f"{PARAMS}: until: {next(iter(params.until))!r} needs two seeds or more, to tell a gain from chance")
    if both := sorted(set(params.reflows) & set(params.until)):
        raise Refused(f"{PARAMS}: until: {both[0]!r} is a row of reflows already")
    if not params.flows:
        raise Refused(f"{PARAMS}: round0: {{}}: at least one flow is needed")
    for name, choice in params.choices.items():
        check_choice(name, choice, params, content)
    for name, flow in params.flows.items():
        check_flow(name, flow, params, content)
    for name, relation in params.relations.items():
        check_relation(name, relation, params, content)
    for name, study in params.studies.items():
        check_study(name, study, params)


def check_names(part: str, rows: Mapping[str, Any]) -> None:
    """Names become file names and words of a command: letters, digits, '-' and '_' only."""
    for name in rows:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise Refused(f"{PARAMS}: {part}: {name!r} is not a usable name; use letters, digits, '-' and '_'")


def member(key: str, value: str, choices: Mapping[str, Any] | list[str]) -> None:
    if value not in choices:
        raise Refused(f"{PARAMS}: {key}: {value!r} is not one of {', '.join(choices)}")


def check_sampling(params: Params) -> None:
    """The solvers exist, and the two that every comparison rests on are among them."""
    build_solvers(params.sample.solvers)
    named(SOLVERS, params.reflow.solver, "reflow.solver")
    for k, solver in enumerate(params.sample.solvers):
        if solver in params.sample.solvers[:k]:
            raise Refused(f"{PARAMS}: sample.solvers.{k}: {solver!r} is there already")
    for steps in (1, params.sample.trajectory_steps):
        if {"name": "euler", "steps": steps} not in params.sample.solvers:
            raise Refused(f"{PARAMS}: sample.solvers: {{name: euler, steps: {steps}}} is missing; the report compares it")


def check_method(key: str, method: Method) -> None:
    """The path exists, the prediction determines the velocity on it, and samplers have a score to go by."""
    if method.auto:
        for field, value, right in (("prediction", method.prediction, "velocity"), ("samplers", method.samplers, [])):
            if value != right:
                raise Refused(f"{PARAMS}: {key}.{field}: {value!r} should be {right!r}: the path 'auto' is not known yet")
        if len(method.interpolant) > 1:
            raise Refused(f"{PARAMS}: {key}.interpolant: {method.interpolant!r} should be {{name: auto}} and nothing else")
        return
    interpolant = build_interpolant(method, key)
    member(f"{key}.prediction", method.prediction, PREDICTIONS)
    samplers = build_samplers(method.samplers, f"{key}.samplers")
    path = method.interpolant["name"]
    if interpolant.noisy and method.prediction != "velocity":
        raise Refused(
            f"{PARAMS}: {key}.prediction: {method.prediction!r} should be velocity: the path {path!r} has a latent, and "
            f"xt with a prediction does not determine the velocity"
        )
    for k, sampler in enumerate(samplers):
        if interpolant.noisy or not method.independent:
            raise Refused(
                f"{PARAMS}: {key}.samplers.{k}: {sampler.label!r} needs the score, which the velocity gives for independent "
                f"pairs on a path without latent alone; this method has {method.coupling!r} and {path!r}"
            )
        if sampler.label in (other.label for other in samplers[:k] if other.steps == sampler.steps):
            raise Refused(f"{PARAMS}: {key}.samplers.{k}: {sampler.label} of {sampler.steps} steps is there already")
        if not sampler.starts(interpolant):
            raise Refused(
                f"{PARAMS}: {key}.samplers.{k}: {sampler.label!r} is infinite at the start of {path!r}, where nothing of "
                f"the data is left: use another noise, or a diffusion (vp_sde, ddpm, ve)"
            )


def check_couples(params: Params) -> None:
    for name, row in params.couples.items():
        member(f"couples.{name}.dataset", row.dataset, [*params.datasets, *params.tables])
        member(f"couples.{name}.coupling", row.coupling, params.couplings)
        if name != f"{row.dataset}-{row.coupling}":
            raise Refused(f"{PARAMS}: couples: {name!r} should be called {row.dataset}-{row.coupling}")


def check_flow(name: str, flow: Flow, params: Params, content: Mapping[str, Any]) -> None:
    """One row of the grid: its name says what it is, its pairs exist, its overrides are valid, its path suits the data."""
    key = f"flows.{name}"
    member(f"{key}.dataset", flow.dataset, [*params.datasets, *params.tables])
    member(f"{key}.method", flow.method, params.methods)
    method, base = params.methods[flow.method], f"{flow.dataset}-{flow.method}"
    parts = ROUND.fullmatch(name)
    if not parts or parts["base"] != base:
        raise Refused(f"{PARAMS}: {key}: {name!r} should be called {base}-roundK, K its round")
    k = int(parts["k"])
    if name in params.round0 if k else name not in params.round0:
        raise Refused(f"{PARAMS}: {key}: round {k} belongs in {'reflows' if k else 'round0'}")
    if k:
        check_round(key, flow, params)
        expected = {"pairs": f"reflow/{name}", "flow": f"{base}-round{k - 1}"}
        if expected["flow"] not in params.flows:
            raise Refused(f"{PARAMS}: {key}: round {k} continues {expected['flow']!r}, which is not a row of flows")
    else:
        couple = f"{flow.dataset}-{method.coupling}"
        expected = {"pairs": f"train/{base}" if method.auto else f"couple/{couple}", "flow": None}
        if method.auto and base not in params.choices:
            raise Refused(f"{PARAMS}: {key}: its path is not chosen anywhere; add the row {base} to choices")
        if couple not in params.couples:
            raise Refused(
                f"{PARAMS}: {key}: its pairs are missing; add to couples: "
                f"{couple}: {{dataset: {flow.dataset}, coupling: {method.coupling}}}"
            )
    for field, value in expected.items():
        if getattr(flow, field) != value:
            raise Refused(f"{PARAMS}: {key}.{field}: {getattr(flow, field)!r} should be {value or 'left out'}")
    network, training = specs(content, method, flow)
    build(Training, training, f"{key}.training")
    build_network(network, f"{key}.network", 2)
    check_source(key, flow, method, content)


def check_round(key: str, flow: Flow, params: Params) -> None:
    """A reflow round: there are source points enough, and the network is that of the round before."""
    if flow.network:
        raise Refused(f"{PARAMS}: {key}.network: {flow.network!r} should be left out: a round continues its network")
    pool, needed = (params.datasets | params.tables)[flow.dataset]["pool"], params.reflow.pairs + params.reflow.validation
    if needed > pool:
        raise Refused(
            f"{PARAMS}: reflow.pairs + reflow.validation: {needed} is more than the pool of {flow.dataset}, {pool}"
        )


def check_source(key: str, flow: Flow, method: Method, content: Mapping[str, Any]) -> None:
    """A path, a prediction or a sampler that only exists for a Gaussian source needs one."""
    if method.auto:  # its candidates were looked at
        return
    interpolant = build_interpolant(method, f"methods.{flow.method}")
    if interpolant.gaussian_source:
        uses = f"the path {method.interpolant['name']!r}"
    elif PREDICTIONS[method.prediction].gaussian_source:
        uses = f"the prediction {method.prediction!r}"
    elif method.samplers:
        uses = f"the sampler {method.samplers[0]['name']!r}"
    else:
        return
    if not has_gaussian_source(flow.dataset, content):
        raise Refused(
            f"{PARAMS}: {key}.method: {flow.method!r} uses {uses}, which needs the source N(0, I), but {flow.dataset!r} has "
            f"another; paths for any source: {free_paths()}, with the prediction velocity and no samplers"
        )


def has_gaussian_source(name: str, content: Mapping[str, Any]) -> bool:
    kind = "tables" if name in content["tables"] else "datasets"
    return build_dataset(kind, content[kind][name], f"{kind}.{name}")[1].gaussian_source


def free_paths() -> str:
    return ", ".join(name for name, path in INTERPOLANTS.items() if not path.gaussian_source)


def check_choice(name: str, row: Choice, params: Params, content: Mapping[str, Any]) -> None:
    """Candidates that suit the data, each once; pairs that are there; a budget."""
    key = f"choices.{name}"
    member(f"{key}.dataset", row.dataset, [*params.datasets, *params.tables])
    couples = [f"couple/{couple}" for couple, of in params.couples.items() if of.dataset == row.dataset]
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
        if path.gaussian_source and not has_gaussian_source(row.dataset, content):
            raise Refused(
                f"{PARAMS}: {key}.candidates.{k}: {spec['name']!r} needs the source N(0, I), but {row.dataset!r} has "
                f"another; paths for any source: {free_paths()}"
            )
    named(SOLVERS, row.solver, f"{key}.solver")
    build(Training, merged(content["training"], row.training), f"{key}.training")
    build_network(merged(content["network"], row.network), f"{key}.network", 2)


def check_relation(name: str, row: Relation, params: Params, content: Mapping[str, Any]) -> None:
    """Two flows of one data set, both of independent pairs on paths that time and scale take into each other."""
    key = f"relations.{name}"
    member(f"{key}.dataset", row.dataset, [*params.datasets, *params.tables])
    if ROUND.fullmatch(name):
        raise Refused(f"{PARAMS}: relations: {name!r} is named like a flow; leave out the round")
    for field in ("first", "second"):
        flow = getattr(row, field)
        member(f"{key}.{field}", flow, [other for other, of in params.flows.items() if of.dataset == row.dataset])
        method = params.methods[params.flows[flow].method]
        if params.flows[flow].rectified or not method.independent or method.auto or build_interpolant(method, key).noisy:
            raise Refused(
                f"{PARAMS}: {key}.{field}: {flow!r} should be round 0 of independent pairs on a path without latent: the "
                f"points that the fields are compared at are known there alone"
            )
    if row.path:
        named(INTERPOLANTS, row.path, f"{key}.path")
    if not has_gaussian_source(row.dataset, content):
        raise Refused(
            f"{PARAMS}: {key}.dataset: {row.dataset!r} should have the source N(0, I), from which paths differ by time"
        )


def check_study(name: str, row: Study, params: Params) -> None:
    """What a section of the report compares is in the grid."""
    for dataset in row.datasets:
        member(f"studies.{name}.datasets", dataset, [*params.datasets, *params.tables])
        for method in row.methods:
            member(f"studies.{name}.methods", method, params.methods)
            if row.kind != "published" and f"{dataset}-{method}-round0" not in params.flows:
                raise Refused(f"{PARAMS}: studies.{name}: {dataset}-{method}-round0 is missing in flows")
    if (row.kind == "published") != bool(row.figures) or bool(row.figures) != bool(row.source):
        raise Refused(f"{PARAMS}: studies.{name}: figures and their source belong to the kind published, and it to them")
    seen: dict[str, str] = {}
    for k, figure in enumerate(row.figures):
        key = f"studies.{name}.figures.{k}"
        member(f"{key}.dataset", figure.dataset, row.datasets)
        member(f"{key}.method", figure.method, row.methods)
        flow = f"{figure.dataset}-{figure.method}-round{figure.round}"
        if flow not in params.flows:
            raise Refused(f"{PARAMS}: {key}: {flow} is missing in flows")
        if (first := seen.setdefault(flow, key)) != key:
            raise Refused(f"{PARAMS}: {key}: {flow} is in {first} already; leave one of them out")
        check_published(key, figure)


def check_published(key: str, figure: Published) -> None:
    """What is published can be set beside ours, and drawn: a distance and, where it is given, its deviation."""
    for metric, (mean, *deviation) in figure.values.items():
        member(f"{key}.values", metric, METRICS)
        if mean <= 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the mean {mean:g} should be greater than 0")
        if deviation and deviation[0] < 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the deviation {deviation[0]:g} should not be negative")


def prune(content: Mapping[str, Any]) -> None:
    """Remove what rows left behind that are gone: the report depends on whole folders, and not on what was there once.

    Nothing is lost: DVC's cache has it, and brings it back with the row.
    """
    problems, flows = {**content["datasets"], **content["tables"]}, content["flows"]
    rows = {
        "generate": problems,
        "floor": problems,
        "couple": content["couples"],
        "reflow": {**content["reflows"], **content["until"]},
    }
    rows |= {"train": {**flows, **content["choices"]}, "sample": flows, "evaluate": {**flows, **content["relations"]}}
    for stage, names in rows.items():
        for path in (DATA / stage).glob("[!.]*"):
            if path.name.removesuffix(".parquet") not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(_: list[str]) -> None:
    """`python -m stages.check`"""
    check(read())
    prune(read())
    write_text(DATA / "checked", "ok\n")


if __name__ == "__main__":
    run(main)
