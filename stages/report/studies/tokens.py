"""Tokens: how near models come to the entropy and to the target, what sources and steps change, and rows on their way."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from rectiflow.statistics import LEVEL, estimate, p_value, paired
from stages.report import token_figures
from stages.report.evidence import SPENT_HEADER, Evidence, measured, spent, values, verdict
from stages.report.figures import errorbars, levels, line_style, panels, uri
from stages.report.html import figure, note, part, table
from stages.report.printing import plain, shown
from stages.report.results import Values
from stages.report.studies.claims import claims
from stages.report.studies.draws import Draw, Draws, evaluations
from stages.report.studies.images import findings
from stages.report.token_albums import TokenRoll
from stages.shared.measures import MEASURES, measure
from stages.shared.studies import Study

COLUMNS = ("in_support", "cells_tv", "blocks_tv", "pairs_tv")
RANKS = ("cells_tv", "pairs_tv", "in_support")  # the first that a data set has is what its draws are ranked by
LIKELIHOODS = (
    "nll", "nll_train", "nll_ordered", "nll_ordered_train", "elbo", "elbo_train", "elbo_error", "bits_per_token",
    "bits_per_token_bound",
)  # fmt: skip
FLOORS = {"elbo": "elbo_floor", "bits_per_token": "bits_per_token_floor", "bits_per_token_bound": "bits_per_token_floor"} | {
    name: "nll_floor" for name in ("nll", "nll_ordered")
}


def tokens(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's findings, tables and pictures, the figure of all, and the claims."""
    found = [Draws(study, evidence, dataset, COLUMNS) for dataset in study.datasets]
    parts = [note(READING), *(each for of in found for each in of_dataset(of))]
    if any(of.draws for of in found):
        caption = (
            "The share in support, where the target has one, and the total variation to the target, against evaluations; "
            "bars are 95 % intervals over seeds, the grey line is what real rows have. Dashes: the share that exact rates "
            "from a masked source have, where both tokens come in one step now and then, each by itself."
        )
        parts.append(figure(curves(found), caption))
    return [*parts, *claims(study, evidence)]


READING = (
    "Likelihoods are in nats a row; their floor is the entropy, where it is known, and independent columns are what a model "
    "without any dependence has. A bound is no likelihood: the likelihood is at least as good. Total variations are those "
    "of as many draws as test rows, to the law of the target or, where it is not known and for pairs, to the test set; the "
    "floor is that of a second sample of the target. Draws that are told the classes of the test set's rows, or their "
    "conditions, may be nearer to it than that."
)


def of_dataset(of: Draws) -> list[str]:
    """All of a data set."""
    if not of.draws:
        said = [*likelihood(of), "no measure of draws is for such rows"]
        return [findings(of.dataset, said), *likelihoods(of), *pictures(of)]
    said = [*likelihood(of), *drawn(of), *supported(of)]
    return [findings(of.dataset, said), *likelihoods(of), numbers(of), *pictures(of)]


# ---- What was found.


def likelihood(of: Draws) -> list[str]:
    """The best likelihood, the best bound, and how far they are from the entropy."""
    said = []
    for name in ("nll", "elbo"):
        there = [m for m in of.study.methods if values(of.evidence, name, of.dataset, m, 0) and m not in asked(of)]
        if there:
            floor = of_any(of, FLOORS[name])
            best = measured(of.evidence, name, of.dataset, there)
            beside = f" (entropy {floor[0]:.4f})" if floor else f" (independent columns {plain(estimate(independent(of)))})"
            said.append(f"{best}{beside}")
    return said


def asked(of: Draws) -> list[str]:
    """The methods that are told the class of a row, or more: what they say of it is no likelihood of the row alone."""
    return [method for method, roll in rolls(of).items() if roll.asked]


def even(of: Draws) -> list[str]:
    """The methods that draw as large a share of all tokens in every step."""
    return [method for method, roll in rolls(of).items() if roll.even]


def rolls(of: Draws) -> Mapping[str, TokenRoll]:
    """What is known of how each method drew tokens."""
    album = of.evidence.tokens(of.dataset)
    return album.rolls if album else {}


def of_any(of: Draws, name: str) -> list[float]:
    """What is the same for all models, seed by seed."""
    rows = of.rows[of.rows.metric == name]
    return rows.groupby("seed").value.first().tolist()


def independent(of: Draws) -> list[float]:
    return of_any(of, "nll_independent")


def rank(of: Draws) -> str:
    """What the draws of a data set are ranked by."""
    return next(name for name in RANKS if name in of.names)


def drawn(of: Draws) -> list[str]:
    """The best reference draws, and models against each other at equal numbers of evaluations."""
    name = rank(of)
    floor = plain(estimate(of.floor(name)))
    references = [draw for draw in of.draws if draw.role == "reference"]
    rows = [Values(draw.label, of.values(draw, name)) for draw in references]
    said = [f"of the reference draws, {verdict(rows, f'{measure(name).title} (floor {floor})', measure(name).better)}"]
    return said + [text for first, second in pairwise(of.study.methods) if (text := against(of, first, second, name))]


def against(of: Draws, first: str, second: str, name: str) -> str:
    """A method's draws minus those of another by the same sampler in as many evaluations; empty where there are none."""
    others = {(draw.solver, draw.nfe): draw for draw in of.draws if draw.method == second}
    parts = []
    for draw in of.draws:
        other = others.get((draw.solver, draw.nfe)) if draw.method == first else None
        if other and (sides := of.both(draw, other, name)):
            gap = paired(*sides)
            apart = "" if gap.n > 1 and p_value(gap) <= LEVEL else ", not told apart"
            parts.append(f"{plain(gap)} by {draw.solver} in {evaluations(draw.nfe)}{apart}")
    return f"{measure(name).title} of {first} minus that of {second}: {'; '.join(parts)}" if parts else ""


def expected(of: Draws, draw: Draw) -> list[float]:
    """The share in support of exact rates in N equal steps of two tokens from a masked source, seed by seed: in 1 of N rows
    both come in one step, each by itself, and `1 - (1 - q) / N` is left, q the share of independent columns in support.
    """
    masked = draw.method in even(of) and values(of.evidence, "nll_ordered", of.dataset, draw.method, 0)
    if not masked or draw.solver != "ctmc" or "blocks_tv" not in of.names:
        return []
    return [1 - (1 - q) / draw.nfe for q in of_any(of, "in_support_independent")]


def supported(of: Draws) -> list[str]:
    """How far the share in support is from that of exact rates, in so many evaluations of each method."""
    gaps: dict[str, list[str]] = {}
    for draw in of.draws:
        if right := expected(of, draw):
            gap = paired(of.values(draw, "in_support"), right)
            gaps.setdefault(draw.method, []).append(f"{plain(gap)} in {evaluations(draw.nfe)} ({np.mean(right):.4f})")
    return [
        f"the share in support of {method} minus that of exact rates, in brackets, is {'; '.join(said)}"
        for method, said in gaps.items()
    ]


# ---- Tables.


def likelihoods(of: Draws) -> list[str]:
    """What each model says of real rows, beside the entropy and independent columns."""
    there = [name for name in LIKELIHOODS if any(values(of.evidence, name, of.dataset, m, 0) for m in of.study.methods)]
    rows = []
    for method in of.study.methods:
        if cells := [shown(values(of.evidence, name, of.dataset, method, 0)) for name in there]:
            given = " (given what it is told)" if method in asked(of) else ""
            rows.append([escape(f"{method}{given}"), *cells, *spent(of.evidence, of.dataset, method, 0)])
    floors = [shown(of_any(of, FLOORS[name])) if name in FLOORS else "" for name in there]
    rows += [["entropy (floor)", *floors, "", ""]] if any(floors) else []
    apart = [shown(independent(of)) if name == "nll" or (name == "elbo" and "nll" not in there) else "" for name in there]
    rows.append(["independent columns", *apart, "", ""])
    return [table(["model", *(MEASURES[name].title for name in there), *SPENT_HEADER], rows)] if there else []


def numbers(of: Draws) -> str:
    """Every draw with all that was measured, real rows, and independent columns."""
    rows = [
        [escape(draw.method), escape(draw.solver), f"{draw.nfe:.4g}", *(shown(of.values(draw, name)) for name in of.names)]
        for draw in of.draws
    ]
    real = [shown(of.floor(name)) for name in of.names]
    apart = [shown(of_any(of, f"{name}_independent")) for name in of.names]
    ends = [["real rows (floor)", "", "", *real], ["independent columns", "", "", *apart]]
    return table(["model", "drawn by", "evaluations", *(MEASURES[name].title for name in of.names)], [*rows, *ends])


# ---- Pictures.


def pictures(of: Draws) -> list[str]:
    """What can be seen of a data set of tokens."""
    if (album := of.evidence.tokens(of.dataset)) is None:
        return []
    album = album._replace(rolls={method: album.rolls[method] for method in of.study.methods if method in album.rolls})
    return [
        part(f"{of.dataset}: {name}", *parts)
        for name, parts in {
            "draws": token_figures.draws(album, of.dataset),
            "rows on their way": token_figures.ways(album, of.dataset),
        }.items()
        if parts
    ]


def curves(found: Sequence[Draws]) -> str:
    """A panel for the share in support and one for the total variation of each data set that has them, a line for each model
    and sampler.
    """
    wanted = [(of, name) for of in found if of.draws for name in dict.fromkeys(("in_support", rank(of))) if name in of.names]
    drawn, axes = panels(len(wanted))
    for ax, (of, name) in zip(axes, wanted, strict=False):
        lines(ax, of, name)
        levels(ax, estimate(of.floor(name)).mean)
        scale = "linear" if name == "in_support" else "log"
        ax.set(title=of.dataset, xscale="log", yscale=scale, xlabel="evaluations", ylabel=MEASURES[name].title)
        steps = sorted({draw.nfe for draw in of.draws})
        ax.set_xticks(steps, [f"{nfe:g}" for nfe in steps], fontsize=7)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.legend(fontsize=6)
    return uri(drawn, "svg")


def lines(ax: Axes, of: Draws, name: str) -> None:
    """A measure of every model by every sampler against evaluations, and the share in support of exact rates."""
    kinds = list(dict.fromkeys((draw.method, draw.solver) for draw in of.draws))
    for method, solver in kinds:
        draws = [draw for draw in of.draws if (draw.method, draw.solver) == (method, solver)]
        solvers = [other for mine, other in kinds if mine == method]
        style = line_style(of.study.methods, method, solvers.index(solver))
        found = [estimate(of.values(draw, name)) for draw in draws]
        errorbars(ax, [draw.nfe for draw in draws], found, label=f"{method}, {solver}", **style)
        right = [(draw.nfe, np.mean(expected(of, draw))) for draw in draws if expected(of, draw)]
        if name == "in_support" and right:
            said = "exact rates, masked source"
            known = said in ax.get_legend_handles_labels()[1]
            ax.plot(*zip(*right, strict=True), "_", ms=14, color="#333", label="_again" if known else said)
