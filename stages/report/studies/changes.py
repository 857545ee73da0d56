"""What is set against what among draws of pictures: a round and the one before, guidance and none, couplings."""

from collections.abc import Iterator
from typing import NamedTuple

from rectiflow.statistics import Estimate, improves
from stages.report.studies.draws import GUIDED, Draw, Draws, evaluations
from stages.shared.measures import measure

STEPS = (1, 4, 50)  # the evaluations told, or those nearest to them


class Change(NamedTuple):
    """What a draw is set against: `subject` says what changes, and `where` at which evaluations."""

    kind: str
    subject: str
    where: str
    of: Draw
    than: Draw


def changes(of: Draws) -> Iterator[Change]:
    """What is set against what: a round and the one before, guidance and none, couplings and independent pairs."""
    for method, k in of.models:
        now, before = of.plain(method, k), of.plain(method, k - 1)
        for nfe in chosen(now, before):
            subject = f"{method}, round {k} against {k - 1}"
            yield Change("rounds", subject, f"at {evaluations(nfe)}", now[nfe], before[nfe])
    for draw in of.draws:
        if draw.guidance and (other := unguided(of, draw)):
            subject = f"guidance {draw.guidance} of {draw.model}"
            where = f"at {evaluations(draw.passes)} against {other.passes:.4g} without"
            yield Change("guidance", subject, where, draw, other)
    for first, second in partners(of):
        for k in sorted({k for method, k in of.models if method == second}):
            independent, planned = of.plain(first, k), of.plain(second, k)
            for nfe in chosen(planned, independent):
                subject = f"{second} against {first}, round {k}"
                yield Change("couplings", subject, f"at {evaluations(nfe)}", planned[nfe], independent[nfe])


def chosen(first: dict[float, Draw], second: dict[float, Draw]) -> list[float]:
    """The evaluations of both nearest to those that are told."""
    shared = [nfe for nfe in first if nfe in second]
    return sorted({min(shared, key=lambda nfe: abs(nfe - steps)) for steps in STEPS}) if shared else []


def unguided(of: Draws, draw: Draw) -> Draw | None:
    """The draw of the same model by as many steps of the same solver without guidance, which ask the field once each."""
    found = GUIDED.fullmatch(draw.solver)
    same = [d for d in of.draws if found and (d.method, d.round, d.solver) == (draw.method, draw.round, found[1])]
    return next((d for d in same if 2 * d.passes == draw.passes), None)


def partners(of: Draws) -> Iterator[tuple[str, str]]:
    """Methods of independent pairs, each with one that differs by its coupling alone."""
    rows = of.evidence.table("couplings")
    rows = rows[(rows.dataset == of.dataset) & rows.method.isin(of.study.methods)]
    for _, alike in rows.groupby("else", sort=False):
        for first in alike.method[alike.coupling == "independent"]:
            yield from ((first, second) for second in alike.method[alike.coupling != "independent"])


def word(gap: Estimate, name: str) -> str:
    """Which way a difference goes beyond its interval."""
    better = measure(name).better
    other = "smaller" if better == "larger" else "larger"
    return "better" if improves(gap, better) else "worse" if improves(gap, other) else "not told apart"
