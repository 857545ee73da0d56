"""Checks of data sets, tables and latents."""

import math

from rectiflow.dataset import Dataset, Empirical
from rectiflow.models import MODELS
from rectiflow.models.bottleneck import Bottleneck
from rectiflow.models.encoder import Encoder
from rectiflow.models.noisy import Noisy
from stages.check.params import Params
from stages.generate import outline
from stages.shared.latents import Latents
from stages.shared.params import PARAMS, Refused
from stages.shared.splits import check_splits


def check_data(params: Params) -> None:
    """Data sets have the options they know and rows enough, and tables are described in full; no rows are read."""
    for name, row in params.datasets.items():
        key = f"datasets.{name}"
        sizes, dataset = outline("datasets", row, key)
        check_sides(dataset, key)
        if sizes.train is None and not isinstance(dataset.target, Empirical):
            raise Refused(f"{PARAMS}: {key}.train is missing: say how many rows to draw")
        check_splits(dataset, sizes, key)
    for name, row in params.tables.items():
        sizes, dataset = outline("tables", row, f"tables.{name}")
        check_splits(dataset, sizes, f"tables.{name}")


def check_sides(dataset: Dataset, key: str) -> None:
    """Source and target have as many dimensions."""
    dims = [getattr(side, "dim", math.prod(dataset.shape)) for side in (dataset.source, dataset.target)]
    if dims[0] != dims[1]:
        raise Refused(f"{PARAMS}: {key}: its source has {dims[0]} dimensions, and its target {dims[1]}")


def check_latents(name: str, row: Latents, params: Params) -> None:
    """There are some, and noise around what is decoded where it is asked for."""
    model = MODELS[params.methods[row.method].model["name"]]
    if not issubclass(model, Encoder):
        raise Refused(
            f"{PARAMS}: latents.{name}.method: {row.method!r} has no latents; the models that have some are {encoders()}"
        )
    if row.noise and not issubclass(model, Noisy):
        raise Refused(f"{PARAMS}: latents.{name}.noise: true: the decoder of {row.method!r} has no noise; leave it out")


def encoders() -> str:
    return ", ".join(name for name in MODELS if issubclass(MODELS[name], Encoder))


def bottlenecks() -> str:
    return ", ".join(name for name in MODELS if issubclass(MODELS[name], Bottleneck))
