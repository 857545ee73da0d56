"""What the sections of the report that look into one question tell from, and how they say it."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from html import escape

import pandas as pd

from rectiflow.statistics import estimate
from stages.report.albums import Album
from stages.report.printing import plain
from stages.report.results import Values, against_first, against_nfe, ranked, select
from stages.report.token_albums import TokenAlbum
from stages.shared.measures import Better, measure

Tables = Mapping[str, Callable[[], pd.DataFrame]]


class Evidence:
    """All there is to tell from: the tidy `results`, and further tables by name, each read when it is first asked for. What
    can be seen of a data set is in its `album`, None for one whose rows are no pictures, and in that of its `tokens`, None
    for one of numbers.
    """

    def __init__(
        self,
        results: pd.DataFrame,
        tables: Tables | None = None,
        album: Callable[[str], Album | None] = lambda _: None,
        tokens: Callable[[str], TokenAlbum | None] = lambda _: None,
    ) -> None:
        self.results, self.album, self.tokens = results, album, cache(tokens)
        self._sources = dict(tables or {})
        self._tables: dict[str, pd.DataFrame] = {}

    def table(self, name: str) -> pd.DataFrame:
        """A table such as `relations` or `choices`, whose rows have a `name`. Raises KeyError for one there is not."""
        if name not in self._tables:
            self._tables[name] = self._sources[name]()
        return self._tables[name]

    @cached_property
    def nfe(self) -> pd.DataFrame:
        """W2 by model, solver and evaluations."""
        return against_nfe(self.results)

    @cached_property
    def floors(self) -> dict[str, float]:
        """The mean W2 floor of each data set."""
        return self.floors_of("w2")

    def floors_of(self, name: str) -> dict[str, float]:
        """The mean floor of a measure by data set; empty for one without a floor."""
        floor = measure(name).floor
        return select(self.results, floor).groupby("dataset").value.mean().to_dict() if floor else {}


def values(evidence: Evidence, name: str, dataset: str, method: str, k: int) -> list[float]:
    """A measure of a model, seed by seed; empty where it was not measured."""
    return select(evidence.results, name, dataset=dataset, method=method, round=k).value.tolist()


def at_nfe(evidence: Evidence, dataset: str, method: str, k: int, nfe: float, solver: str = "euler") -> list[float]:
    """W2 of a model by a solver at so many evaluations, seed by seed."""
    rows = evidence.results
    rows = rows[(rows.dataset == dataset) & (rows.method == method) & (rows["round"] == k) & (rows.metric == "w2")]
    return rows[(rows.solver == solver) & (rows.nfe == nfe)].sort_values("seed").value.tolist()


def spent(evidence: Evidence, dataset: str, method: str, k: int) -> list[str]:
    """The weights of a model and the steps of its training, beside them those of what it learned from, as cells."""
    rows = evidence.table("spent")
    for row in rows[(rows.dataset == dataset) & (rows.method == method) & (rows["round"] == k)].itertuples():
        return [f"{row.weights:,}", f"{row.steps:,}" + f" + {row.before:,}" * (row.before > 0)]
    return ["", ""]


SPENT_HEADER = ["weights", "training steps"]  # the header of these
SPENT_NOTE = "After a plus stand the steps of what a model learned from: a teacher, an earlier round, a bottleneck."


def finding(what: str, said: str) -> str:
    """What was found, of what."""
    return f"<p><b>{escape(what)}</b>: {escape(said)}</p>"


def verdict(rows: Sequence[Values], what: str, better: Better = "smaller") -> str:
    """The best of some rows in a sentence, with those the seeds cannot tell from it; rows without values are left out."""
    found = ranked([row for row in rows if row.values], better)
    if not found:
        return f"there is no {what}"
    others = against_first(found)
    tied, behind = ([label for label, _, holds in others if holds == wanted] for wanted in (False, True))
    most = "largest" if better == "larger" else "smallest"
    said = f"the {most} {what} is that of {found[0].label}, {plain(estimate(found[0].values))}"
    if not others:
        return said
    if not behind:
        return f"{said}; the seeds do not separate it from any other"
    if not tied:
        return f"{said}; the seeds separate it from all others"
    return f"{said}; the seeds separate it from {', '.join(behind)} but not from {', '.join(tied)}"


def measured(evidence: Evidence, name: str, dataset: str, methods: Sequence[str], k: int = 0) -> str:
    """The verdict on a measure over the methods of a data set."""
    rows = [Values(method, values(evidence, name, dataset, method, k)) for method in methods]
    return verdict(rows, measure(name).title, measure(name).better)
