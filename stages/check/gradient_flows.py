"""Checks of gradient flows."""

from collections.abc import Mapping
from typing import Any

import torch

from rectiflow.gradient_flows import SCHEMES
from rectiflow.gradient_flows.recovery import Recovery
from rectiflow.models import MODELS
from rectiflow.models.velocity import Velocity
from stages.check.params import Params, has_gaussian_source
from stages.generate import build_dataset
from stages.grid import Rows
from stages.shared.blocks import member
from stages.shared.descents import Teacher, build_descent, fitting
from stages.shared.movements import GradientFlow
from stages.shared.objectives import objective_of
from stages.shared.params import PARAMS, Refused, build, named


def check_gradient_flow(name: str, row: GradientFlow, content: Mapping[str, Any], params: Params, rows: Rows) -> None:
    """Its data set has the densities that it needs, its scheme can follow it, and its teacher knows what is asked."""
    key = f"gradient_flows.{name}"
    if params.of_tokens(row.dataset):
        raise Refused(f"{PARAMS}: {key}.dataset: the rows of {row.dataset!r} are tokens, which have no gradient to follow")
    dataset = build_dataset("datasets", params.datasets[row.dataset], row.dataset)[1]
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
