"""Where the measures of laws given a condition, and of roll-outs, lie."""

from pathlib import Path

from stages.shared.places import DATA

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
