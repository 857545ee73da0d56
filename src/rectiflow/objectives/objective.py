"""What every objective is: it begins a model, draws what a step needs, and says what is to be small."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Generator, Tensor

from rectiflow.models.model import Model
from rectiflow.networks.network import Build
from rectiflow.pairs import Pairs, Points

Begun = TypeVar("Begun", bound=Model)


@dataclass(frozen=True)
class Turns:
    """How a player takes part in training: in every step, or once in `every` so many, at `rate` times the learning rate.
    `betas` are the decays of its gradients' moments, `size` what its loss is counted in where that begins nearer 0: it has
    diverged when it has risen by a thousand times as much.
    """

    every: int = 1
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    size: float = 1e-3


ALONE: Mapping[str, Turns] = {"theta": Turns()}


def begun(model: Callable[..., Begun], network: Build, data: Any, generators: Sequence[Generator]) -> Begun:
    """A model that begins by itself. Raises ValueError as it does, naming the key whose option is wrong."""
    try:
        return model(network, data, generators)
    except ValueError as error:
        key = "" if str(error).startswith("network.") else "model."  # whose options are not the model's
        raise ValueError(f"{key}{error}") from error


class Objective(Protocol):
    """What `training.fit` minimises.

    `data` is the kind of rows it trains on, `trains` the kind of model. `players` own the model's weights, one tensor each,
    and take their turns in this order; a game's may depend on its options. `smooth` says that the losses need a forward-mode
    or a second derivative: the network runs unfused. `gaussian_source` says that it is only defined for x0 ~ N(0, I). Where
    options are objects, `parts` says which, each with the table that it is from; it may be left out.
    """

    data: ClassVar[type[Points | Pairs]]
    trains: ClassVar[type[Model]]
    smooth: ClassVar[bool]
    gaussian_source: ClassVar[bool]

    @property
    def players(self) -> Mapping[str, Turns]: ...

    def begin(self, data: Any, generators: Sequence[Generator], start: Any = None) -> Any:
        """An untrained model of all seeds, a generator for each; or one that goes on from `start`."""
        ...

    def draw(self, model: Any, data: Any, rows: Tensor, generator: Generator, done: float) -> tuple[Tensor, ...]:
        """What some steps of one seed need, with the axes of `rows` first; model and data are that seed's own.

        It is drawn for many steps at once, as small calls cost more than work: rows of the data, `(steps, batch)`. `done` is
        the share of the training that lies behind the first of them.
        """
        ...

    def losses(self, player: str, model: Any, average: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Losses of one step `(seeds, ...)`, whose mean the player lowers; each seed's are its own.

        `average` has the exponential average of the weights.
        """
        ...
