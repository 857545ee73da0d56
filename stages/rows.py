"""Rows of the grid: what is trained on what."""

from typing import Any

from stages.settings import Settings


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
