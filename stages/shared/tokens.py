"""Measures of tokens: their rows in `grid.yaml`, and where what is measured lies."""

from pathlib import Path
from typing import Any

from stages.shared.params import Settings
from stages.shared.places import DATA


class TokensRow(Settings):
    """A model of tokens whose draws and likelihood are measured. `known` is the key of `params.yaml` that says what is known
    of the data set, as a DensityRow has it; `override` is what the row has in place of the defaults of `stages.tokens`.
    """

    dataset: str
    known: str
    model: str
    network: str
    override: dict[str, Any]


def measured(name: str) -> Path:
    """What the draws of a model of tokens are like, and what it says of real ones."""
    return DATA / "evaluate" / "tokens" / f"{name}.parquet"  # below a folder that is there in any case: the report needs it
