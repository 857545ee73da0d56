"""What a data set is: a source and a target, and all that is known of their rows.

A distribution draws `sample(n, generator) -> (n, dim)` in float32. Where both sides are Gaussian mixtures the flow between
them is known in closed form (see `mixtures`). Real data is a finite table, `Empirical`: its rows are split, not drawn.
Points are flat rows everywhere; `Dataset.shape` says what a row is a picture of. Rows of tokens are whole numbers, and their
source are uniform tokens (see `token_laws`).
"""

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Generator, Tensor

from rectiflow.entropy import LogProb, entropy, gaussian_entropy
from rectiflow.laws import Law
from rectiflow.mixtures import GaussianMixture
from rectiflow.units import Scaled, Units

Label = str | int | bool


class Distribution(Protocol):
    """Anything with independent draws, `(n, dim)` float32, or integers that are tokens."""

    def sample(self, n: int, generator: Generator) -> Tensor: ...


@dataclass(frozen=True)
class Empirical:
    """A finite data set, `(rows, dim)`, of float32 or of integers."""

    rows: Tensor

    @staticmethod
    def unread(rows: int, dim: int) -> "Empirical":
        """So many rows of zeros, which take no memory: what is known of a table that is not read."""
        return Empirical(torch.zeros(()).expand(rows, dim))


@dataclass(frozen=True)
class Labels:
    """The classes of finite sides: their names in sorted order, and for each side that has classes the place of every row's
    class among the names, `(rows,)` of int32.
    """

    classes: tuple[Label, ...]
    target: Tensor
    source: Tensor | None = None


@dataclass(frozen=True)
class Conditions:
    """Numbers that come with rows: their names, what brought them to mean 0 and deviation 1, and for each finite side that
    has some those of every row, `(rows, k)` float32. A side that is drawn has them beside its points.
    `whole` says that a row is the next state, in the units of the state that its condition begins with.
    """

    names: tuple[str, ...]
    units: Scaled
    target: Tensor | None = None
    source: Tensor | None = None
    whole: bool = False


@dataclass(frozen=True)
class Dataset:
    """A transport problem: x0 ~ source, x1 ~ target. A row holds the numbers of an array of this `shape`, in C order.
    `units` says what scaled the rows, None where nothing did; `outliers` are rows of it that are known not to be of the
    target; `condition` has the numbers that a model may be told with a row, as `labels` has the classes. `vocabulary` is how
    many values each column has where rows are tokens, `words` which these are, where they are not the tokens themselves.
    """

    source: Distribution | Empirical
    target: Distribution | Empirical
    shape: tuple[int, ...] = (2,)
    labels: Labels | None = None
    units: Units | None = None
    outliers: Empirical | None = None
    condition: Conditions | None = None
    vocabulary: tuple[int, ...] = ()
    words: tuple[tuple[Label, ...], ...] = ()

    @property
    def oracle(self) -> tuple[GaussianMixture, GaussianMixture] | None:
        """Both sides as mixtures when the problem has a closed form, else None."""
        source, target = self.source, self.target
        known = isinstance(source, GaussianMixture) and isinstance(target, GaussianMixture)
        return cast(tuple[GaussianMixture, GaussianMixture], (source, target)) if known else None

    @property
    def gaussian_source(self) -> bool:
        """Whether x0 ~ N(0, I), which some paths and every score conversion need."""
        source = self.source
        if not isinstance(source, GaussianMixture) or len(source.weights) > 1:
            return False
        return bool((source.means == 0).all() and (source.stds == 1).all())

    def log_prob(self, side: str) -> LogProb | None:
        """The log density of the `source` or the `target` in nats, or the log probability of tokens, for points `(n, dim)`,
        in double precision; None where it is not known.
        """
        law = {"source": self.source, "target": self.target}[side]
        if isinstance(law, GaussianMixture):
            return law.double().log_prob
        return law.log_prob if isinstance(law, Law) else None

    def entropy(self) -> float | None:
        """The entropy of the target in nats, below which no negative log-likelihood is on average: the differential entropy,
        or that of tokens; None where it is not known.
        """
        if isinstance(self.target, GaussianMixture):
            return mixture_entropy(self.target)
        found = self.target.entropy if isinstance(self.target, Law) else None
        return found() if found else None


def mixture_entropy(mixture: GaussianMixture) -> float | None:
    """Of a single Gaussian in closed form, of several in the plane by quadrature, else None."""
    if len(mixture.weights) == 1:
        return gaussian_entropy(mixture.dim, float(mixture.stds))
    if mixture.dim != 2:
        return None
    low, high = ((mixture.means.double() + sign * 9 * mixture.stds[:, None].double()) for sign in (-1, 1))
    step = float(mixture.stds.min()) / 3
    return entropy(mixture.double().log_prob, low.amin(0).tolist(), high.amax(0).tolist(), step)
