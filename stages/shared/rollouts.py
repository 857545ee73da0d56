"""How roll-outs are measured, and where their measures lie."""

from pathlib import Path

from pydantic import Field

from stages.shared.params import Settings
from stages.shared.places import DATA


class Rolled(Settings):
    """From so many `starts` for so many `steps`, with actions that change every `hold` steps; beside so many `tracks` of the
    system from each.
    """

    steps: int = Field(200, ge=2)
    starts: int = Field(200, ge=2)
    hold: int = Field(10, ge=1)
    tracks: int = Field(400, ge=40)


# Below a folder that is there in any case: the report needs it.


def measured(name: str) -> Path:
    """How far roll-outs stay with the simulator's."""
    return DATA / "evaluate" / "rollout" / name / "measures.parquet"


def tracks(name: str) -> Path:
    """The states of a model's roll-outs."""
    return DATA / "evaluate" / "rollout" / name / "tracks.parquet"


def bands(name: str) -> Path:
    """What the simulator does from some of the starts."""
    return DATA / "evaluate" / "rollout" / name / "bands.parquet"
