"""Where a law given its condition is measured: the cells of conditions. Where its measures lie."""

from pathlib import Path

from pydantic import Field

from stages.shared.params import Settings
from stages.shared.places import DATA


class Cells(Settings):
    """The cells: of a system `states` and `actions` places on each axis of its box, and so many `draws` at each; of any
    other data set without classes so many `parts`, a power of two.
    """

    states: int = Field(5, ge=1)
    actions: int = Field(3, ge=1)
    draws: int = Field(500, ge=2)
    parts: int = Field(8, ge=1)


# Below a folder that is there in any case: the report needs it.


def measured(name: str) -> Path:
    """How near draws are to the law given their condition."""
    return DATA / "evaluate" / "given" / name / "measures.parquet"


def cells(name: str) -> Path:
    """The same cell by cell."""
    return DATA / "evaluate" / "given" / name / "cells.parquet"
