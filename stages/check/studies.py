"""Checks of the sections of the report that look into one question."""

from collections.abc import Mapping
from typing import Any

from stages.check.params import Params
from stages.grid import Rows
from stages.report.studies.kinds import STUDIES
from stages.shared.blocks import member
from stages.shared.measures import MEASURES, shown_in
from stages.shared.params import PARAMS, Refused
from stages.shared.studies import Published, Study

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
    check_claims(name, row, params, rows["flows"] | found)
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


def check_claims(name: str, row: Study, params: Params, known: Mapping[str, Any]) -> None:
    """What is said can be looked into: the section does so, and both sides are in the grid."""
    if row.claims and row.kind not in CLAIMING:
        raise Refused(f"{PARAMS}: studies.{name}.claims belong to the kinds {', '.join(CLAIMING)}, and not to {row.kind!r}")
    for k, claim in enumerate(row.claims):
        key = f"studies.{name}.claims.{k}"
        member(f"{key}.dataset", claim.dataset, params.problems)
        for side, method, than in zip(claim.sides, ("method", "than"), ("", "than_"), strict=True):
            member(f"{key}.{method}", side.method, dict.fromkeys([*params.methods, *row.methods]))
            member(f"{key}.{than}measure", side.measure, list(MEASURES))
            if (flow := f"{claim.dataset}-{side.method}-round{side.round}") not in known:
                raise Refused(f"{PARAMS}: {key}.{than}round: {side.round}: {flow} is not in the grid")
            if side.nfe is not None and side.solver is None:
                raise Refused(
                    f"{PARAMS}: {key}.{than}nfe: {side.nfe:g} says which draws of a solver are meant; add {than}solver"
                )


def check_published(key: str, figure: Published) -> None:
    """What is published can be set beside ours, and drawn: a distance and, where it is given, its deviation."""
    for metric, (mean, *deviation) in figure.values.items():
        member(f"{key}.values", metric, shown_in("published"))
        if mean <= 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the mean {mean:g} should be greater than 0")
        if deviation and deviation[0] < 0:
            raise Refused(f"{PARAMS}: {key}.values.{metric}: the deviation {deviation[0]:g} should not be negative")
