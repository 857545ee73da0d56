"""Checks of the sections of the report that look into one question."""

from collections.abc import Mapping
from typing import Any

from rectiflow.models import MODELS
from stages.check.params import Params
from stages.grid import Rows
from stages.report.studies.kinds import STUDIES
from stages.sample import REFERENCE, build_samplers, serving
from stages.shared.blocks import member
from stages.shared.measures import MEASURES, measure, shown_in
from stages.shared.params import PARAMS, Refused
from stages.shared.studies import Published, Side, Study

CLAIMING = ("paradigms", "tokens", "images", "diffflow")  # these look into claims
OF_DRAWS = ("images", "latents", "paradigms", "predictive")  # these compare draws alone, whatever they were drawn from


def check_study(name: str, row: Study, content: Mapping[str, Any], params: Params, rows: Rows) -> None:
    """What a section of the report compares is in the grid, and pictures where it shows some."""
    member(f"studies.{name}.kind", row.kind, STUDIES)
    found = rows["decoded"] if row.kind in OF_DRAWS else {}
    decoded = dict.fromkeys(of["method"] for of in found.values())
    for dataset in row.datasets:
        member(f"studies.{name}.datasets", dataset, params.problems)
        if row.kind == "images" and len(params.describe(dataset, content).shape) != 3:
            raise Refused(f"{PARAMS}: studies.{name}.datasets: {dataset!r} are no pictures of (channels, height, width)")
        for method in row.methods:
            member(f"studies.{name}.methods", method, [*params.methods, *decoded])
            if row.kind != "published" and f"{dataset}-{method}-round0" not in rows["flows"] | found:
                raise Refused(f"{PARAMS}: studies.{name}: {dataset}-{method}-round0 is not in the grid")
    check_claims(name, row, params, rows, rows["flows"] | found)
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


def check_claims(name: str, row: Study, params: Params, rows: Rows, known: Mapping[str, Any]) -> None:
    """What is said can be looked into: the section does so, and both sides are in the grid and were drawn so."""
    if row.claims and row.kind not in CLAIMING:
        raise Refused(f"{PARAMS}: studies.{name}.claims belong to the kinds {', '.join(CLAIMING)}, and not to {row.kind!r}")
    for k, claim in enumerate(row.claims):
        key = f"studies.{name}.claims.{k}"
        member(f"{key}.dataset", claim.dataset, params.problems)
        if claim.sides[0] == claim.sides[1]:
            raise Refused(f"{PARAMS}: {key}.than: {claim.than!r} is the same draw and measure; name another")
        baselines = params.baselines if claim.dataset in rows["baselined"] else {}
        for side, method, than in zip(claim.sides, ("method", "than"), ("", "than_"), strict=True):
            member(f"{key}.{method}", side.method, dict.fromkeys([*params.methods, *row.methods, *baselines]))
            if not side.measure.startswith("w2_after_"):
                member(f"{key}.{than}measure", side.measure, list(MEASURES))
            flow = f"{claim.dataset}-{side.method}-round{side.round}"
            if flow not in known and (side.method not in baselines or side.round):
                raise Refused(f"{PARAMS}: {key}: {flow} is not in the grid")
            of = known.get(flow, {})
            check_draw(key, than, side, params, rows["flows"][of["flow"]] if "flow" in of else of)


def check_draw(key: str, than: str, side: Side, params: Params, row: Mapping[str, Any]) -> None:
    """A side of a claim that names a sampler is measured on its draws, which are those of one number of evaluations."""
    if side.solver is None:
        if side.nfe is not None:
            raise Refused(f"{PARAMS}: {key}.{than}nfe: {side.nfe:g} says which draws of a solver; add {than}solver")
        return
    if measure(side.measure).role != REFERENCE or not row:
        raise Refused(
            f"{PARAMS}: {key}.{than}solver: {side.solver!r} should be left out: {side.measure} of {side.method!r} is not "
            f"measured on draws of every sampler"
        )
    samplers = build_samplers([*params.sample.samplers, *params.samplers.get(row["method"], [])], "sample.samplers")
    labels = [sampler.label for sampler in serving(samplers, MODELS[row["model"]])]
    member(f"{key}.{than}solver", side.solver, dict.fromkeys(labels))
    if labels.count(side.solver) > 1 and side.nfe is None:
        raise Refused(f"{PARAMS}: {key}.{than}nfe is missing: {side.solver!r} draws more than once")


def check_published(key: str, figure: Published) -> None:
    """What is published can be set beside ours, and drawn: a distance and, where it is given, its deviation."""
    for metric, (mean, *deviation) in figure.values.items():
        member(f"{key}.values", metric, shown_in("published"))
        if mean <= 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the mean {mean:g} should be greater than 0")
        if deviation and deviation[0] < 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the deviation {deviation[0]:g} should not be negative")
