"""Checks of the rows beside the grid: choices and relations."""

from collections.abc import Mapping
from typing import Any

from rectiflow.interpolants import INTERPOLANTS
from rectiflow.samplers import SAMPLERS
from stages.check.methods import check_serves, free_paths
from stages.check.params import Params, check_specs, has_gaussian_source
from stages.grid import Rows
from stages.shared.blocks import member
from stages.shared.objectives import objective_of
from stages.shared.params import PARAMS, Refused, named
from stages.shared.rows import Choice, Relation


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
    if name in rows["flows"] or name in rows["decoded"]:
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
