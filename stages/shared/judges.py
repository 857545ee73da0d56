"""Judges, classifiers whose features draws are measured by: their rows in `params.yaml` and `grid.yaml`, and where what they
are and what they see lies.
"""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from stages.shared.params import Settings
from stages.shared.places import DATA


class Judge(Settings):
    """A classifier of a `dataset` with classes, a row of `judges`. `network` and `training` override single keys of the
    shared sections. In training pictures are moved by up to `shift` pixels.
    """

    dataset: str
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}
    shift: int = Field(0, ge=0)


class Judging(Settings):
    """A row of `judging` in `grid.yaml`: what a judge depends on."""

    dataset: str
    network: str


class Asked(Settings):
    """What a block has measured by the features of a `judge`; its other keys are those of `stages.features`."""

    model_config = ConfigDict(extra="allow")

    judge: str

    @property
    def override(self) -> dict[str, Any]:
        """What it says in place of the defaults there."""
        return dict(self.model_extra or {})


class FeaturesRow(Settings):
    """A model whose draws a judge sees, and what the judge's network is called. `override` is what the row has in place of
    the defaults of `stages.features`.
    """

    dataset: str
    judge: str
    network: str
    override: dict[str, Any]


def folder(judge: str) -> Path:
    """The folder of a judge, a trained model as others are."""
    return DATA / "judge" / judge


def curves(judge: str) -> Path:
    """The loss curves of its training."""
    return folder(judge) / "curves.parquet"


def seen(judge: str) -> Path:
    """What it sees of the splits that it was not trained on: rows `(split, seed, label, judged, x)`."""
    return folder(judge) / "features.parquet"


def accuracy(judge: str) -> Path:
    """How often it is right."""
    return DATA / "evaluate" / "judge" / f"{judge}.parquet"  # below a folder that is there in any case: the report needs it


def features(name: str) -> Path:
    """The folder of what a judge sees of a model's draws."""
    return DATA / "features" / name


def drawn(name: str) -> Path:
    """What a judge sees of every draw: rows `(seed, draw, judged, x)`."""
    return features(name) / "features.parquet"


def reconstructed(name: str) -> Path:
    """What a judge sees of reconstructions: rows `(split, seed, judged, x)`; there for what is decoded alone."""
    return features(name) / "reconstructions.parquet"


def measured(name: str) -> Path:
    """How far the draws of a model are from its target by what a judge sees."""
    return DATA / "evaluate" / "features" / f"{name}.parquet"
