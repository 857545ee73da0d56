"""What trained densities are set against: scikit-learn's mixtures and detectors of outliers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from rectiflow.ranges import at_least, inside, positive

Score = Callable[[np.ndarray], np.ndarray]  # larger for what is more like the training points, `(n,)` for x `(n, dim)`


class Baseline(Protocol):
    """A way to score points after some of a law were seen. `normalised` says that a score is a log density."""

    normalised: ClassVar[bool]

    def fit(self, x: np.ndarray, seed: int) -> Score:
        """The score that follows from points `(n, dim)`."""
        ...


def _doubles(of: Any) -> Score:
    return lambda x: np.asarray(of(x.astype(np.float64)), np.float64)


@dataclass(frozen=True)
class IsolationForest:
    """How many random cuts set a point apart (Liu, Ting and Zhou 2008)."""

    trees: int = 200

    normalised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(1, trees=self.trees)

    def fit(self, x: np.ndarray, seed: int) -> Score:
        """The mean depth, scaled as scikit-learn does; to ten digits, so that ties are ties on every processor."""
        from sklearn.ensemble import IsolationForest as Forest  # a second of imports

        forest = Forest(n_estimators=self.trees, random_state=seed).fit(x.astype(np.float64))
        return _doubles(lambda of: forest.score_samples(of).round(10))


@dataclass(frozen=True)
class Mixture:
    """The log density of so many Gaussians with full covariances, by EM; `reg` is added to their diagonals."""

    components: int = 1
    reg: float = 1e-3

    normalised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(1, components=self.components)
        positive(reg=self.reg)

    def fit(self, x: np.ndarray, seed: int) -> Score:
        """log p in nats."""
        from sklearn.mixture import GaussianMixture

        if len(x) < self.components:
            raise ValueError(f"components: {self.components} is more than the {len(x)} training points")
        mixture = GaussianMixture(self.components, reg_covar=self.reg, random_state=seed, max_iter=500)
        return _doubles(mixture.fit(x.astype(np.float64)).score_samples)


@dataclass(frozen=True)
class OneClassSvm:
    """The side of the surface that a share `nu` of the training points lies beyond (Schoelkopf et al. 2001), with a radial
    kernel of scikit-learn's usual width, on at most `most` points, as its cost is quadratic.
    """

    nu: float = 0.05
    most: int = 2000

    normalised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(2, most=self.most)
        inside("(0, 1]", nu=self.nu)

    def fit(self, x: np.ndarray, seed: int) -> Score:
        """The signed distance to the surface."""
        from sklearn.svm import OneClassSVM

        return _doubles(OneClassSVM(nu=self.nu).fit(x[: self.most].astype(np.float64)).decision_function)


BASELINES: dict[str, Callable[..., Baseline]] = {
    "isolation_forest": IsolationForest,
    "gaussian_mixture": Mixture,
    "one_class_svm": OneClassSvm,
}
