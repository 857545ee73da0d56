"""Where the measures of tokens lie."""

from pathlib import Path

from stages.shared.places import DATA


def measured(name: str) -> Path:
    """What the draws of a model of tokens are like, and what it says of real ones."""
    return DATA / "evaluate" / "tokens" / f"{name}.parquet"  # below a folder that is there in any case: the report needs it
