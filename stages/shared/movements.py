"""Gradient flows: their rows in `params.yaml` and `grid.yaml`, and where their artifacts lie."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stages.shared.params import Settings
from stages.shared.places import DATA

Side = Literal["source", "target"]


class GradientFlow(Settings):
    """A row of `gradient_flows`: from the law `source` downhill `energy`, which is that to the `target` side of the data
    set, in `steps` steps of length `tau`, by `scheme`. `source` is `{name: gaussian, mean, std}`, or the `source` or the
    `target` of the data set. `teacher` names a flow of the grid whose field gives the score in place of the data set's own
    density, or the velocity where the scheme asks for it. `test` points are compared by W2. `recover` asks for the potential
    behind the steps (see `rectiflow.gradient_flows.recovery`).
    """

    dataset: str
    source: dict[str, Any] = {"name": "source"}
    energy: dict[str, Any] = {"name": "kl"}
    target: Side = "target"
    tau: float = Field(gt=0)
    steps: int = Field(ge=1)
    scheme: dict[str, Any]
    teacher: str | None = None
    test: int = Field(2000, ge=2)
    recover: dict[str, Any] | None = None


class Movement(Settings):
    """A row of `movements` in `grid.yaml`: what a gradient flow depends on. `data` is its data set, `generate/DATASET`, or
    `train/FLOW`, its teacher.
    """

    dataset: str
    scheme: str
    data: str


def folder(name: str) -> Path:
    """The folder of a gradient flow."""
    return DATA / "evaluate" / "jko" / name  # below a folder that is there in any case: the report depends on it


def states(name: str) -> Path:
    """The last states, which more steps go on from."""
    return folder(name) / "states.safetensors"


def steps(name: str) -> Path:
    """What was measured at every step."""
    return folder(name) / "steps.parquet"


def frames(name: str) -> Path:
    """Points of every step's law, for pictures."""
    return folder(name) / "frames.parquet"


def measured(name: str) -> Path:
    """What was measured at the end."""
    return folder(name) / "measures.parquet"
