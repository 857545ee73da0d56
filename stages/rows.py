"""Small sections that several stages read: where to compute, and the rows of the grid."""

from typing import Any, Literal

from pydantic import Field

from stages.settings import Settings, parse, read, section


class Compute(Settings):
    """Where to compute: `device` auto takes the GPU if there is one, `threads` are torch's in one stage."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(ge=1)


class Workers(Settings):
    """How many transport problems are solved side by side; no result depends on it."""

    workers: int = Field(ge=1)


def load_workers() -> int:
    return parse(Workers, {"workers": section(read(), "workers")}, "").workers


class Method(Settings):
    """A way to train round 0: pairs of a coupling, a path, and what differs from the shared `network` and `training`."""

    coupling: str
    interpolant: dict[str, Any]
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}


class Couple(Settings):
    """Pairs of a data set by a coupling."""

    dataset: str
    coupling: str


class Flow(Settings):
    """One trained flow. `pairs` is `couple/DATASET-COUPLING`, or `reflow/NAME` together with the `flow` it continues."""

    dataset: str
    method: str
    pairs: str
    flow: str | None = None
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @property
    def rectified(self) -> bool:
        """Whether the pairs were drawn by an earlier flow."""
        return self.flow is not None
