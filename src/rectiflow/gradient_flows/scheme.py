"""What every scheme is: a way to the next of the laws `p_{k+1} = argmin_p F(p) + W2^2(p, p_k) / (2 tau)`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Generator, Tensor

from rectiflow.gradient_flows.energies import Energy
from rectiflow.mixtures import GaussianMixture
from rectiflow.solvers import VelocityField

State = dict[str, Tensor]  # all that the next step needs, by name
Taught = Literal["score", "velocity"]  # what a scheme asks a teacher for


@dataclass(frozen=True)
class Descent:
    """A gradient flow to follow: from the law `source` downhill the `energy`, in `steps` steps of length `tau`.

    `target` is the mixture that the energy is the KL divergence to, where it is one; schemes in closed form go by it.
    `score` is that of the law after a time, `grad log p_s(x)`, where it was learned, and `velocity` a learned v(t, x).
    """

    source: Any
    energy: Energy
    tau: float
    target: GaussianMixture | None = None
    score: VelocityField | None = None
    velocity: VelocityField | None = None
    steps: int = 1

    @property
    def dim(self) -> int:
        return int(self.source.dim)

    @property
    def end(self) -> float:
        """The time of the last step."""
        return self.tau * self.steps


class Measured(NamedTuple):
    """The energy of a law, and the standard error where it is a mean over points, 0 where it is not."""

    energy: float
    error: float


class Scheme(ABC):
    """A scheme with its options. Its states are tensors, in double precision where nothing else is said.

    `random` says whether a run depends on a generator; where it does not all seeds share one. `downhill` says whether it
    follows the gradient flow, `taught` what it takes from a teacher, if anything.
    """

    random: ClassVar[bool]
    downhill: ClassVar[bool] = True
    taught: ClassVar[Taught | None] = None

    @property
    @abstractmethod
    def label(self) -> str:
        """What tells it from others in a table."""

    def fits(self, descent: Descent) -> None:  # noqa: B027  most have nothing to refuse
        """Raises ValueError, the option's name first, for a descent that the scheme cannot follow."""

    @abstractmethod
    def begin(self, descent: Descent, generator: Generator) -> State:
        """The state of the source."""

    @abstractmethod
    def step(self, descent: Descent, state: State, generator: Generator) -> State:
        """The next state. Raises ArithmeticError where the step's own iterations do not settle."""

    @abstractmethod
    def energy(self, descent: Descent, state: State) -> Measured:
        """F of a state."""

    @abstractmethod
    def weighted(self, state: State) -> tuple[Tensor, Tensor]:
        """Points `(n, dim)` and their masses `(n,)`, which sum to 1."""

    def available(self, n: int) -> int:
        """How many of n points a state can give: all, unless it is made of fewer."""
        return n

    @abstractmethod
    def sample(self, state: State, n: int, generator: Generator) -> Tensor:
        """n points of the state's law, `(n, dim)`: drawn from it or, where it is made of points, the first n of these.

        Raises ValueError where it is made of fewer.
        """

    @abstractmethod
    def length(self, descent: Descent, before: State, after: State) -> float:
        """How far a step has gone, in W2."""
