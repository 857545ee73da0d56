"""Kinds of models on the same data, networks and budget: one table, one figure, and what is commonly said of them."""

from html import escape
from typing import Any, NamedTuple

from rectiflow.statistics import estimate
from stages.report.evidence import SPENT_HEADER, SPENT_NOTE, Evidence, finding, spent, values, verdict
from stages.report.figures import levels, marked, panels, uri
from stages.report.html import figure, note, table
from stages.report.printing import shown
from stages.report.results import Values
from stages.report.studies.claims import claims
from stages.shared.measures import MEASURES, measure
from stages.shared.studies import Study

LIKELIHOODS = ("nll", "nll_exact", "iw_bound", "elbo")  # the first that a model has stands in the table
BOUNDS = ("iw_bound", "elbo")
LEGEND = 2.4  # inches
BESIDE = 1.05  # from method to method, of draws in as many evaluations
SHARPNESS = ("modes_covered", "modes_valid", "modes_tv", "precision", "recall")


class Row(NamedTuple):
    """One draw of a model: its method and round, how it was drawn, in how many evaluations on average, and whether that is
    the `same` number for every seed.
    """

    method: str
    round: int
    solver: str
    role: str
    nfe: float
    same: bool

    @property
    def label(self) -> str:
        return self.method if not self.round else f"{self.method}, round {self.round}"


def paradigms(study: Study, evidence: Evidence) -> list[str]:
    """What was found on each data set with its table, the figure of all, and the claims."""
    parts = [part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)]
    caption = (
        "W2 of every draw against its evaluations, those of as many side by side; bars are 95 % intervals over seeds, the "
        "grey line is the floor."
    )
    parts += [figure(scatter(study, evidence), caption), *claims(study, evidence)]
    return parts


def draws(study: Study, evidence: Evidence, dataset: str) -> list[Row]:
    """Every draw of the study's methods on a data set, in the order of the methods."""
    rows = evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.metric == "w2") & rows.method.isin(study.methods)]
    rows = rows if study.rounds is None else rows[rows["round"] <= study.rounds]
    found = []
    for (method, k, solver, role), mine in rows.groupby(["method", "round", "solver", "role"], sort=False):
        same = mine.groupby("seed").nfe.apply(lambda nfe: tuple(sorted(nfe))).nunique() == 1
        steps = mine.nfe.unique() if same else [mine.nfe.mean()]
        found += [Row(method, int(k), solver, role, float(nfe), same) for nfe in steps]
    found = [row for row in found if row.solver != "euler" or row.role]  # an intermediate step count says little here
    return sorted(found, key=lambda row: (study.methods.index(row.method), row.round, -row.nfe))


def drawn_values(evidence: Evidence, dataset: str, row: Row, metric: str) -> list[float]:
    """A metric of a draw, seed by seed."""
    rows = evidence.results
    mine = (rows.dataset == dataset) & (rows.method == row.method) & (rows["round"] == row.round)
    mine &= (rows.solver == row.solver) & (rows.role == row.role) & (rows.metric == metric)
    mine &= (rows.nfe == row.nfe) | (not row.same)
    return rows[mine].sort_values("seed", kind="stable").value.tolist()


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """The best by distance, by likelihood and by modes, and the table of all draws."""
    rows = draws(study, evidence, dataset)
    if not rows:
        return [finding(dataset, "nothing was drawn")]
    said = [verdict([Values(f"{r.label} by {r.solver}", drawn_values(evidence, dataset, r, "w2")) for r in rows], "W2")]
    likely = [Values(label, found) for label, found in best_likelihoods(study, evidence, dataset)]
    said += [verdict(likely, MEASURES["nll"].title)] if likely else []
    there = [name for name in SHARPNESS if any(drawn_values(evidence, dataset, row, name) for row in rows)]
    if "modes_tv" in there:
        named = [Values(f"{r.label} by {r.solver}", drawn_values(evidence, dataset, r, "modes_tv")) for r in rows]
        said.append(verdict(named, MEASURES["modes_tv"].title))
    cells = [cells_of(evidence, dataset, row, there) for row in rows]
    header = ["model", "drawn by", "evaluations", "W2", "NLL or bound", *(MEASURES[name].title for name in there)]
    header += SPENT_HEADER
    floors = ["floor", "", "", shown(floor(evidence, "w2", dataset)), shown(floor(evidence, "nll", dataset))]
    floors += [shown(floor(evidence, name, dataset)) for name in there]
    return [
        finding(f"{dataset} (floor {evidence.floors[dataset]:.3f})", f"{'; '.join(said)}."),
        table(header, [*cells, [*floors, "", ""]]),
        note(
            f"A bound is marked: the likelihood itself is at least as good. A dash: the model has no likelihood. "
            f"{SPENT_NOTE}"
        ),
    ]


def cells_of(evidence: Evidence, dataset: str, row: Row, there: list[str]) -> list[str]:
    """A row of the table."""
    sharp = [shown(drawn_values(evidence, dataset, row, name)) for name in there]
    return [
        escape(row.label), escape(row.solver), f"{row.nfe:.4g}", shown(drawn_values(evidence, dataset, row, "w2")),
        likelihood(evidence, dataset, row), *sharp, *spent(evidence, dataset, row.method, row.round),
    ]  # fmt: skip


def likelihood(evidence: Evidence, dataset: str, row: Row) -> str:
    """The likelihood of a model, or its bound, which says so; a dash where it has none."""
    for name in LIKELIHOODS:
        if found := values(evidence, name, dataset, row.method, row.round):
            return f"{shown(found)}{' (bound)' if name in BOUNDS else ''}"
    return "–"


def best_likelihoods(study: Study, evidence: Evidence, dataset: str) -> list[tuple[str, list[float]]]:
    """The methods whose likelihood itself is known, with it."""
    found = []
    for method in study.methods:
        exact = (values(evidence, name, dataset, method, 0) for name in LIKELIHOODS if name not in BOUNDS)
        if of := next((each for each in exact if each), None):
            found.append((method, of))
    return found


def floor(evidence: Evidence, name: str, dataset: str) -> list[float]:
    """The floor of a measure on a data set, seed by seed."""
    of = measure(name).floor
    rows = evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.metric == of)]
    return rows.groupby("seed").value.first().tolist() if of else []


def scatter(study: Study, evidence: Evidence) -> str:
    """A panel for each data set, a point for each draw: a colour and a mark for each method, hollow in later rounds."""
    drawn, axes = panels(len(study.datasets))
    drawn.set_figwidth(drawn.get_figwidth() + LEGEND)
    legend: dict[str, Any] = {}
    for ax, dataset in zip(axes, study.datasets, strict=False):
        for row in draws(study, evidence, dataset):
            of, k = estimate(drawn_values(evidence, dataset, row, "w2")), study.methods.index(row.method)
            style = marked(k) | {"fillstyle": "none" if row.round else "full"}
            place = row.nfe * BESIDE ** (k - len(study.methods) / 2)
            points = ax.errorbar(place, of.mean, of.half, ls="", ms=4, capsize=2, elinewidth=0.7, **style)
            legend.setdefault(row.label, points)
        levels(ax, evidence.floors[dataset])
        ax.set(title=dataset, xscale="log", yscale="log", xlabel="function evaluations", ylabel=MEASURES["w2"].axis)
    drawn.legend(list(legend.values()), list(legend), loc="outside right upper", ncols=1, fontsize=7)
    return uri(drawn, "svg")
