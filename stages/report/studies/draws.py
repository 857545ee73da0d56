"""The draws of pictures: what was measured of each, seed by seed, and of real pictures and reconstructions beside them."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from stages.report.evidence import Evidence, values
from stages.shared.measures import measure
from stages.shared.studies import Study

FEATURES, PIXELS = ("feature_precision", "feature_recall"), ("precision", "recall")
# What says less than another is left out beside it.
INSTEAD = dict(zip(PIXELS, FEATURES, strict=True)) | {"w2_reconstructed": "frechet_reconstructed"}
COLUMNS = (
    "frechet", "frechet_reconstructed", "kernel_distance", *FEATURES, *PIXELS, "judged_classes", "judged_accuracy",
    "neighbour", "w2", "w2_reconstructed",
)  # fmt: skip
GUIDED = re.compile(r"(.+)\(guidance (.+)\)")


class Draw(NamedTuple):
    """One draw of a model: its method and round, its sampler, which of that sampler's draws it is, its evaluations, how many
    of them are the decoder's, and its role.
    """

    method: str
    round: int
    solver: str
    place: int
    nfe: float
    decoder: int
    role: str

    @property
    def model(self) -> str:
        return f"{self.method}, round {self.round}"

    @property
    def guidance(self) -> str:
        """Its scale; empty without."""
        found = GUIDED.fullmatch(self.solver)
        return found[2] if found else ""

    @property
    def passes(self) -> float:
        """The evaluations of the field."""
        return self.nfe - self.decoder

    @property
    def label(self) -> str:
        return f"{self.model} by {self.solver}, {evaluations(self.passes)}"


class Draws:
    """The draws of a study's methods on a data set, and what was measured of them."""

    def __init__(self, study: Study, evidence: Evidence, dataset: str, columns: Sequence[str] = COLUMNS) -> None:
        self.study, self.evidence, self.dataset = study, evidence, dataset
        rows = evidence.results
        rows = rows[(rows.dataset == dataset) & rows.method.isin(study.methods)]
        self.rows = rows if study.rounds is None else rows[rows["round"] <= study.rounds]
        drawn = self.rows[self.rows.metric.isin(columns) & (self.rows.solver != "")]
        # A sampler may be asked twice, with steps of its own each time; an adaptive one has other evaluations for each seed.
        by = ["method", "round", "solver", "metric", "seed"]
        self.drawn = drawn.assign(place=drawn.groupby(by, sort=False).cumcount())
        self.draws = self._draws()
        there = [name for name in columns if (self.drawn.metric == name).any()]
        self.names = [name for name in there if INSTEAD.get(name) not in there]

    def _draws(self) -> list[Draw]:
        groups = self.drawn.groupby(["method", "round", "solver", "place", "role"], sort=False).nfe.mean()
        found = [
            Draw(method, int(k), solver, int(place), nfe, self.decoder(method), role)
            for (method, k, solver, place, role), nfe in groups.items()
        ]
        order = self.study.methods.index
        return sorted(found, key=lambda draw: (order(draw.method), draw.round, draw.guidance != "", draw.nfe, draw.guidance))

    def decoder(self, method: str) -> int:
        """One for a method whose draws are decoded latents, else 0."""
        return int(((self.rows.method == method) & (self.rows.metric == "w2_decoder")).any())

    def values(self, draw: Draw, name: str) -> list[float]:
        """A measure of a draw, seed by seed; empty where it was not measured."""
        rows = self.drawn
        mine = (rows.method == draw.method) & (rows["round"] == draw.round) & (rows.solver == draw.solver)
        mine &= (rows.place == draw.place) & (rows.metric == name)
        return rows[mine].sort_values("seed", kind="stable").value.tolist()

    def floor(self, name: str) -> list[float]:
        """What real pictures have, seed by seed."""
        rows = self.rows[self.rows.metric == (measure(name).floor or f"{name}_floor")]
        return rows.groupby("seed").value.first().tolist()

    def of_model(self, name: str, draw: Draw) -> list[float]:
        """A measure of the draw's model itself, seed by seed."""
        return values(self.evidence, name, self.dataset, draw.method, draw.round)

    def both(self, first: Draw, second: Draw, name: str) -> tuple[list[float], list[float]] | None:
        """A measure of two draws; None where one of them has it not."""
        of, than = self.values(first, name), self.values(second, name)
        return (of, than) if of and len(of) == len(than) else None

    def reference(self, method: str, k: int) -> Draw | None:
        """The reference draw of a model."""
        return next((d for d in self.draws if (d.method, d.round, d.role) == (method, k, "reference")), None)

    def plain(self, method: str, k: int) -> dict[float, Draw]:
        """The draws by steps of Euler's without guidance, by their evaluations."""
        return {d.passes: d for d in self.draws if (d.method, d.round, d.solver) == (method, k, "euler")}

    @property
    def models(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys((draw.method, draw.round) for draw in self.draws))


def evaluations(nfe: float) -> str:
    return f"{nfe:.4g} evaluation{'s' * (nfe != 1)}"
