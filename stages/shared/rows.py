"""The rows of `params.yaml` that several stages read."""

from typing import Annotated, Any, Literal

from pydantic import Field

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


class Method(Settings):
    """A way to train round 0: pairs of a coupling, a path, what the network predicts, and what differs from the shared
    `network` and `training`; `samplers` draw from round 0 besides the solvers that all flows share.
    """

    coupling: str
    interpolant: dict[str, Any]
    prediction: str = "velocity"
    samplers: list[dict[str, Any]] = []
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @property
    def auto(self) -> bool:
        """Whether the path is the outcome of a choice."""
        return self.interpolant.get("name") == "auto"

    @property
    def independent(self) -> bool:
        """Whether x0 and x1 are independent in round 0, told from the coupling's name."""
        return self.coupling.split("-")[0] == "independent"


class Relation(Settings):
    """Two trained flows of a data set, compared at points of the `path` (the first one's own if there is none)."""

    dataset: str
    first: str
    second: str
    path: dict[str, Any] | None = None


class Choice(Settings):
    """Candidate paths trained on the same `pairs` for a small budget, ranked by held-out W2 after `solver`."""

    dataset: str
    pairs: str
    candidates: list[dict[str, Any]] = Field(min_length=2)
    solver: dict[str, Any]
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}


class Published(Settings):
    """What others report of a flow: by metric the mean and, where it is given, the deviation over their runs."""

    dataset: str
    method: str
    round: int = Field(0, ge=0)
    values: dict[str, Annotated[list[float], Field(min_length=1, max_length=2)]] = Field(min_length=1)


class Study(Settings):
    """A section of the report that looks into one question, with the data sets and methods it compares, up to a number of
    `rounds` if there is one. Where they are set beside published `figures`, `source` says whose, and `note` what differs.
    """

    kind: Literal["paths", "rounds", "steps", "fields", "choice", "published"]
    title: str
    datasets: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    rounds: int | None = Field(None, ge=0)
    figures: list[Published] = []
    source: str = ""
    note: str = ""


class Couple(Settings):
    """Pairs of a data set by a coupling."""

    dataset: str
    coupling: str


class Flow(Settings):
    """One trained flow. `pairs` is `couple/DATASET-COUPLING`, `reflow/NAME` together with the `flow` it continues, or, where
    the path is `auto`, `train/NAME`, a row of `choices`.
    """

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
