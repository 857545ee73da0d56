"""Laws given a condition, and roll-outs: their rows in `grid.yaml`, and where what is measured lies."""

from pathlib import Path
from typing import Any

from stages.shared.params import Settings
from stages.shared.places import DATA


class GivenRow(Settings):
    """A model whose draws are measured given their conditions, or rolled out. `known` is the key of `params.yaml` that says
    what is known of the data set, as a DensityRow has it. `override` is what the row has in place of the defaults of its
    stage.
    """

    dataset: str
    known: str
    model: str
    network: str
    override: dict[str, Any]


# Below a folder that is there in any case: the report needs it.


def measured(name: str) -> Path:
    """How near draws are to the law given their condition."""
    return DATA / "evaluate" / "given" / name / "measures.parquet"


def cells(name: str) -> Path:
    """The same cell by cell."""
    return DATA / "evaluate" / "given" / name / "cells.parquet"


def rolled(name: str) -> Path:
    """How far roll-outs stay with the simulator's."""
    return DATA / "evaluate" / "rollout" / name / "measures.parquet"


def tracks(name: str) -> Path:
    """The states of a model's roll-outs."""
    return DATA / "evaluate" / "rollout" / name / "tracks.parquet"


def bands(name: str) -> Path:
    """What the simulator does from some of the starts."""
    return DATA / "evaluate" / "rollout" / name / "bands.parquet"
