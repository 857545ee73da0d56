"""The rows of `studies`: what the report looks into. No other stage depends on this code."""

from typing import Annotated

from pydantic import Field

from stages.shared.params import Settings


class Published(Settings):
    """What others report of a flow: by metric the mean and, where it is given, the deviation over their runs."""

    dataset: str
    method: str
    round: int = Field(0, ge=0)
    values: dict[str, Annotated[list[float], Field(min_length=1, max_length=2)]] = Field(min_length=1)


class Study(Settings):
    """A section of the report that looks into one question, with the data sets and methods it compares, up to a number of
    `rounds` if there is one. Where it names none, they are those `of` a block of the grid. Where they are set beside
    published `figures`, `source` says whose, and `note` what differs.
    """

    kind: str
    title: str
    of: str | None = None
    datasets: list[str] = []
    methods: list[str] = []
    rounds: int | None = Field(None, ge=0)
    figures: list[Published] = []
    source: str = ""
    note: str = ""
