"""Bounds of a likelihood: their rows in `grid.yaml`, and where what is measured lies."""

from pathlib import Path
from typing import Any

from stages.shared.params import Settings
from stages.shared.places import DATA


class BoundRow(Settings):
    """A bottleneck whose bounds are measured. `override` is what the row has in place of the defaults of `stages.bound`."""

    dataset: str
    model: str
    network: str
    override: dict[str, Any]


def measured(name: str) -> Path:
    """What a bottleneck says of its test points."""
    return DATA / "evaluate" / "bound" / f"{name}.parquet"  # below a folder that is there in any case: the report needs it
