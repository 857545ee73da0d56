"""The sections of `params.yaml` together, and what follows from several of them."""

from collections.abc import Mapping
from typing import Any

import torch

from rectiflow.models import MODELS
from rectiflow.training import Training
from stages.generate import Description, description, gaussian_source, outline
from stages.reflow import Reflow
from stages.sample import Sample
from stages.shared.blocks import Sections
from stages.shared.objectives import build_network, made_up, objective_of
from stages.shared.params import build, finish, merged
from stages.shared.rows import Compute, Workers


class Params(Sections, Workers):
    """The sections of `params.yaml`."""

    seeds: list[int]
    compute: Compute
    training: dict[str, Any]
    reflow: Reflow
    sample: Sample
    density: dict[str, Any]

    def rows(self, dataset: str) -> dict[str, Any]:
        """How many rows a data set has, and all else that its section says of it; latents have those of their origin."""
        found: dict[str, Any] = getattr(self, self.kind(dataset))[self.origin(dataset)]
        return found

    def of_tokens(self, dataset: str) -> bool:
        """Whether the rows of a data set are tokens; no rows are read for it."""
        if dataset in self.latents:
            return False
        kind, row = self.kind(dataset), self.rows(dataset)
        return "tokens" in row if kind == "tables" else bool(outline(kind, row, f"{kind}.{dataset}")[1].vocabulary)

    def describe(self, dataset: str, content: Mapping[str, Any]) -> Description:
        """What is known of a data set before its rows are read."""
        if dataset in self.latents:
            known = self.describe(self.origin(dataset), content)
            size = latent_size(self.latents[dataset].method, known, content)
            told = known.condition and known.condition - known.dim + size  # the latent is there in place of the state
            kept = MODELS[self.methods[self.latents[dataset].method].model["name"]].whole
            return Description(None, (size,), False, classes=known.classes, condition=told if kept else 0)
        kind = self.kind(dataset)
        return description(kind, self.rows(dataset), f"{kind}.{dataset}")


def latent_size(method: str, known: Description, content: Mapping[str, Any]) -> int:
    """How many latents a model has for rows of which so much is known."""
    objective = objective_of(content, content["methods"][method], f"methods.{method}", {})
    data = made_up(objective, known.shape, conditions=max(1, known.conditions))
    given = {"data": data, "generators": [torch.Generator()]}
    size: int = finish(objective.begin, {}, f"methods.{method}", **given).latent
    return size


def check_specs(params: Params, key: str, *overrides: Mapping[str, Any]) -> None:
    """The shared network and training with those of a method, or of a method in a block, over them."""
    half = len(overrides) // 2
    build_network(merged(params.network, *overrides[:half]), f"{key}network")
    build(Training, merged(params.training, *overrides[half:]), f"{key}training")


def has_gaussian_source(name: str, params: Params) -> bool:
    if name in params.latents:
        return True
    kind = params.kind(name)
    return gaussian_source(kind, getattr(params, kind)[name], f"{kind}.{name}")
