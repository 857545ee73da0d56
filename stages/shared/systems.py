"""What steps: the system that a data set is drawn from, and a trained model in its place."""

from torch import Tensor

from rectiflow.pairs import Points
from rectiflow.samplers import Sampler
from rectiflow.transitions import Transitions
from stages.generate import outline
from stages.sample import Sample, build_samplers, role, serving
from stages.shared.params import GRID, load, read, section
from stages.shared.rows import Draws


def law_of(known: str) -> Transitions | None:
    """The transitions that a row of `datasets` draws from; None for any other data set."""
    if known.split(".")[0] != "datasets":
        return None
    target = outline("datasets", section(read(), known), known)[1].target
    return target if isinstance(target, Transitions) else None


def given_of(condition: Tensor) -> Tensor:
    """Conditions in standard units `(n, numbers)` as a network is told them, `(1, n, ...)`."""
    found = Points(condition.new_zeros(1, len(condition), 1), condition=condition[None]).given()
    assert found is not None
    return found


def samplers_of(name: str, kind: type) -> list[tuple[Sampler, str]]:
    """What draws from a model of a row of `flows`, as the stage `sample` has it, each with its role."""
    settings, own = load(Sample, "sample"), load(Draws, f"samples.{name}", GRID)
    found = serving(build_samplers(settings.samplers, "sample.samplers"), kind)
    found += build_samplers(own.samplers, f"{GRID}: samples.{name}.samplers")
    return [(sampler, role(sampler, found, settings.reference)) for sampler in found]
