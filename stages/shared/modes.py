"""Modes, precision and recall: their rows in `grid.yaml`, and where what is measured lies."""

from pathlib import Path
from typing import Any

from stages.shared.params import Settings
from stages.shared.places import DATA


class ModesRow(Settings):
    """A model whose draws are measured. `override` is what the row has in place of the defaults of `stages.modes`."""

    dataset: str
    override: dict[str, Any]


def measured(name: str) -> Path:
    """How the draws of a model spread over its target."""
    return DATA / "evaluate" / "modes" / f"{name}.parquet"  # below a folder that is there in any case: the report needs it
