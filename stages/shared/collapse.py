"""Collapse of latents: its rows in `grid.yaml`, and where what is measured lies."""

from pathlib import Path

from stages.shared.params import Settings
from stages.shared.places import DATA


class CollapseRow(Settings):
    """A model whose latents are measured."""

    dataset: str
    model: str
    network: str


def measured(name: str) -> Path:
    """How far latents are from having collapsed."""
    return (
        DATA / "evaluate" / "collapse" / f"{name}.parquet"
    )  # below a folder that is there in any case: the report needs it
