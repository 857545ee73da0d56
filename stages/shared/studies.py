"""The rows of `studies`: what the report looks into. No other stage depends on this code."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from stages.shared.params import Settings


class Published(Settings):
    """What others report of a flow: by metric the mean and, where it is given, the deviation over their runs."""

    dataset: str
    method: str
    round: int = Field(0, ge=0)
    values: dict[str, Annotated[list[float], Field(min_length=1, max_length=2)]] = Field(min_length=1)


class Side(NamedTuple):
    """What a claim is about, or what that is compared with: a measure of a method in a round, of its reference draws, or of
    those by a `solver`, as the report calls it, in `nfe` evaluations where that is said.
    """

    measure: str
    method: str
    round: int
    solver: str | None
    nfe: float | None


class Claim(Settings):
    """What is said of a method: that its `measure` is `smaller` or `larger` than that of another, `than`, on a data set; the
    other's is `than_measure` where it is another. With `spread` it is said of how much the measure scatters over the seeds.
    `round` and `than_round` are rounds of rectification; see `Side` for `solver` and `nfe`.
    """

    said: str
    dataset: str
    method: str
    measure: str
    is_: Literal["smaller", "larger"] = Field(alias="is")
    than: str
    round: int = Field(0, ge=0)
    than_round: int = Field(0, ge=0)
    than_measure: str | None = None
    solver: str | None = None
    than_solver: str | None = None
    nfe: float | None = Field(None, gt=0)
    than_nfe: float | None = Field(None, gt=0)
    spread: bool = False

    @property
    def sides(self) -> tuple[Side, Side]:
        """What it is about, and the other."""
        return (
            Side(self.measure, self.method, self.round, self.solver, self.nfe),
            Side(self.than_measure or self.measure, self.than, self.than_round, self.than_solver, self.than_nfe),
        )


class Study(Settings):
    """A section of the report that looks into one question, with the data sets and methods it compares, up to a number of
    `rounds` if there is one. Where it names none, they are those `of` a block of the grid. Where they are set beside
    published `figures`, `source` says whose, and `note` what differs. `claims` are looked into one by one.
    """

    kind: str
    title: str
    of: str | None = None
    datasets: list[str] = []
    methods: list[str] = []
    rounds: int | None = Field(None, ge=0)
    figures: list[Published] = []
    claims: list[Claim] = []
    source: str = ""
    note: str = ""
