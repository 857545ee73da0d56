"""The rows of `params.yaml` and `grid.yaml` that several stages read."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from stages.shared.params import Settings, parse, read, section


class Compute(Settings):
    """Where to compute: `device` auto takes the GPU if there is one, `threads` are torch's in one stage."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(ge=1)


class Workers(Settings):
    """How many transport problems are solved side by side; no result depends on it."""

    workers: int = Field(ge=1)


def load_workers() -> int:
    return parse(Workers, {"workers": section(read(), "workers")}, "").workers


class MethodKeys(Settings):
    """What every row of `methods` has: what is minimised, for which model, on the pairs of a coupling or, where there is
    none, on the target's points; and what differs from the shared `network` and `training`.
    """

    coupling: str | None = None
    objective: str = "matching"
    model: dict[str, Any] = {"name": "velocity"}
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}


class Method(MethodKeys):
    """A row of `methods`: its other keys are options of the objective, which `stages.shared.objectives` checks."""

    model_config = ConfigDict(extra="allow")

    @property
    def auto(self) -> bool:
        """Whether the path is the outcome of a choice."""
        path = (self.model_extra or {}).get("interpolant")
        return isinstance(path, dict) and path.get("name") == "auto"


class Relation(Settings):
    """Two trained flows of a data set, compared at points of the `path` (the first one's own if there is none)."""

    dataset: str
    first: str
    second: str
    path: dict[str, Any] | None = None


class Choice(Settings):
    """Candidate paths trained on the same `pairs` for a small budget, ranked by held-out W2 after `sampler`."""

    dataset: str
    pairs: str
    candidates: list[dict[str, Any]] = Field(min_length=2)
    sampler: dict[str, Any]
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}


# ---- Rows of grid.yaml.


class Couple(Settings):
    """Pairs of a data set by a coupling."""

    dataset: str
    coupling: str


class Override(Settings):
    """What a row has in place of single keys of the shared sections."""

    network: dict[str, Any] = {}
    training: dict[str, Any] = {}


class Flow(Settings):
    """One trained model. `data` is what it is trained on: the pairs `couple/DATASET-COUPLING`; the target's points,
    `generate/DATASET`, where the method has no coupling; `train/DATASET-METHOD`, a row of `choices`, where the path is
    `auto`; or `reflow/NAME`, which holds the model that it continues as well. `objective`, `model` and `network` are names.
    """

    dataset: str
    method: str
    round: int
    data: str
    objective: str
    model: str
    network: str
    override: Override

    @property
    def rectified(self) -> bool:
        """Whether the pairs were drawn by an earlier flow."""
        return self.round > 0


class Round(Settings):
    """A round whose pairs are drawn by the `flow` of the round before."""

    dataset: str
    flow: str
    model: str
    network: str


class MeasuredRow(Settings):
    """A trained model that is measured beside what is known of its target. `known` is the key of `params.yaml` that says it,
    `datasets.NAME`; of a table all that is known is in its artifacts, and it has `compute`, which is read anyway. `override`
    is what the row has in place of the defaults of its stage or, of a density, of single keys of the section `density`.
    """

    dataset: str
    known: str
    model: str
    network: str
    override: dict[str, Any]


class BaselineRow(Settings):
    """A data set that densities and baselines are measured on; `known` as a MeasuredRow has it, `train` and `outliers` as
    the section `density` has them for it, which checks them.
    """

    known: str
    train: Any
    outliers: Any


class Draws(Settings):
    """What is drawn from a trained model beside the samplers that all models share. `independent` says whether x0 and x1 of
    its pairs are.
    """

    independent: bool
    samplers: list[dict[str, Any]]
