"""Checks of data sets, tables and latents."""

import math

from rectiflow.datasets import FINITE, Dataset
from rectiflow.models import MODELS
from rectiflow.models.bottleneck import Bottleneck
from stages.check.params import Params
from stages.generate import check_table, parse_builtin
from stages.shared.latents import Latents
from stages.shared.params import PARAMS, Refused, finish


def check_data(params: Params) -> None:
    """Data sets have the options they know, and tables are described in full."""
    for name, row in params.datasets.items():
        call, sizes, options = parse_builtin(row, f"datasets.{name}")
        if row["name"] not in FINITE or set(options.values()) - {None}:  # loading these costs seconds
            check_sides(finish(call, options, f"datasets.{name}"), f"datasets.{name}")
        if row["name"] not in FINITE and sizes.train is None:
            raise Refused(f"{PARAMS}: datasets.{name}.train is missing: say how many rows to draw")
    for name, row in params.tables.items():
        check_table(row, f"tables.{name}")


def check_sides(dataset: Dataset, key: str) -> None:
    """Source and target have as many dimensions."""
    dims = [getattr(side, "dim", math.prod(dataset.shape)) for side in (dataset.source, dataset.target)]
    if dims[0] != dims[1]:
        raise Refused(f"{PARAMS}: {key}: its source has {dims[0]} dimensions, and its target {dims[1]}")


def check_latents(name: str, row: Latents, params: Params) -> None:
    """They are those of a bottleneck."""
    if not issubclass(MODELS[params.methods[row.method].model["name"]], Bottleneck):
        raise Refused(
            f"{PARAMS}: latents.{name}.method: {row.method!r} has no latents; the models that have some are {bottlenecks()}"
        )


def bottlenecks() -> str:
    return ", ".join(name for name in MODELS if issubclass(MODELS[name], Bottleneck))
