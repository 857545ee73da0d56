"""What the numbers of a trained model stand for: columns, units, the source, and what a draw may be asked to be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rectiflow.conditions import Condition, placed
from rectiflow.dataset import Distribution, Empirical, Label
from rectiflow.datasets import DATASETS
from rectiflow.mixtures import GaussianMixture, normal
from rectiflow.pairs import Points
from rectiflow.registry import built
from rectiflow.token_laws import uniform
from rectiflow.units import Units


@dataclass(frozen=True)
class Origin:
    """What a model's numbers stand for. `columns` are those of the rows, names and widths; `units` brought the rows to x,
    None where nothing did; `source` is the row of DATASETS whose source is the model's, None for N(0, I), and `given` says
    that x0 comes from a table, of which the model knows nothing. `independent` says whether x0 and x1 of its pairs were,
    which samplers that go by the score need. A conditional model knows `classes`, by their names, and the numbers of a
    `condition`. `shape` are the axes of the array that a row is, `(channels, height, width)`, or `(dim,)`. Where rows are
    tokens, `vocabulary` is how many values each column has, and `words` which these are, where they are not the tokens
    themselves; their source is uniform.
    """

    columns: tuple[tuple[str, int], ...]
    units: Units | None = None
    source: Mapping[str, Any] | None = None
    given: bool = False
    independent: bool = True
    classes: tuple[Label, ...] = ()
    condition: Condition | None = None
    shape: tuple[int, ...] = ()
    vocabulary: tuple[int, ...] = ()
    words: tuple[tuple[Label, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.shape:
            object.__setattr__(self, "shape", (self.dim,))

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return sum(width for _, width in self.columns)

    def law(self) -> Distribution:
        """Where x0 is drawn from. Raises ValueError where that is a table."""
        if self.given:
            raise ValueError("x0: None: this model starts from the rows of a table; give some of them (--x0)")
        if self.vocabulary:
            return uniform(self.vocabulary)
        if self.source is None:
            return normal(self.dim)
        law = built(DATASETS, self.source).source
        assert not isinstance(law, Empirical)  # of no row of DATASETS is it
        return law  # type: ignore[no-any-return]

    def conditions(self, n: int, label: Any, condition: Any) -> Tensor | None:
        """What tells a network the label and the condition of n rows, `(1, n, conditions)`; None where neither is given.
        Raises ValueError for what the model does not know, and for one of both where it has learned both.
        """
        asked, known = {"label": label, "condition": condition}, {"label": self.classes, "condition": self.condition}
        for name, value in asked.items():
            if value is not None and not known[name]:
                raise ValueError(
                    f"{name}: {' '.join(repr(value).split()):.40}: this model was trained without; leave it out"
                )
        if label is None and condition is None:
            return None
        for name in known:
            if known[name] and asked[name] is None:
                raise ValueError(f"{name}: None: this model has learned label and condition together; give both, or neither")
        places = None if label is None else placed(label, n, self.classes)[None]
        numbers = None if condition is None or self.condition is None else self.condition.given(condition, n)[None]
        return Points(torch.zeros(1, n, 1), places, classes=len(self.classes), condition=numbers).given()

    @property
    def choices(self) -> str:
        """What a draw may be asked to be, in words."""
        classes = [f"label: one of {', '.join(map(str, self.classes))}"] if self.classes else []
        numbers = [f"condition: {', '.join(self.condition.names)}"] if self.condition else []
        return "; ".join(classes + numbers)

    def log_prob(self) -> Callable[[Tensor], Tensor]:
        """The log density of x0 for points `(n, dim)`, in double precision. Raises ValueError where it is not known."""
        law = self.law()
        found = law.double().log_prob if isinstance(law, GaussianMixture) else getattr(law, "log_prob", None)
        if found is None:
            raise ValueError("log_prob: this model's source has no known density")
        return found
