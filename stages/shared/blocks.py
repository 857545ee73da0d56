"""The blocks of `params.yaml`: data sets times methods times rounds, the sections that they name, and their cells."""

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from pydantic import Field

from rectiflow.models import MODELS
from rectiflow.networks import NETWORKS
from rectiflow.objectives import OBJECTIVES
from stages.shared.judges import Judge
from stages.shared.latents import Latents
from stages.shared.movements import GradientFlow
from stages.shared.params import PARAMS, Refused, Settings, merged, name_in
from stages.shared.rows import Choice, Relation
from stages.shared.studies import Study
from stages.shared.teachers import Learning

NAMED = (
    "datasets", "tables", "latents", "couplings", "methods", "grid", "choices", "relations", "baselines", "gradient_flows",
    "judges",
)  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Block(Settings):
    """Rows of the grid: every data set with every method, round 0 and so many `rounds` of rectification. Rounds after these,
    up to the number `until`, end by themselves. `network` and `training` override single keys of the shared sections; with
    `density`, which does so too, and may be empty, the densities of the rows are measured; with `modes`, which may be empty,
    how their draws spread over the target; with `bound`, which may be empty, the bounds of bottlenecks; with `features`, how
    far their draws are from the target by what a judge sees; with `tokens`, which may be empty, draws and likelihoods of
    tokens; with `given` and `rollouts`, which may be empty, how near the draws of conditional models are to the law given
    the condition, and where these lead, step after step; with `collapse`, which is empty, how far latents are from being one
    point.
    """

    datasets: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    rounds: int = Field(0, ge=0, le=1000)
    until: int | None = Field(None, ge=1, le=1000)
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}
    density: dict[str, Any] | None = None
    modes: dict[str, Any] | None = None
    bound: dict[str, Any] | None = None
    features: dict[str, Any] | None = None
    tokens: dict[str, Any] | None = None
    given: dict[str, Any] | None = None
    rollouts: dict[str, Any] | None = None
    collapse: dict[str, Any] | None = None

    @property
    def last(self) -> int:
        """The last round there may be."""
        return max(self.rounds, self.until or 0)


class Sections(Settings):
    """The sections of `params.yaml` that the rows follow from."""

    datasets: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, Any]]
    latents: dict[str, Latents] = {}
    couplings: dict[str, dict[str, Any]]
    network: dict[str, Any]
    methods: dict[str, Learning]
    samplers: dict[str, list[dict[str, Any]]]
    baselines: dict[str, dict[str, Any]]
    grid: dict[str, Block]
    choices: dict[str, Choice]
    relations: dict[str, Relation]
    gradient_flows: dict[str, GradientFlow] = {}
    judges: dict[str, Judge] = {}
    studies: dict[str, Study]

    @property
    def problems(self) -> list[str]:
        """The names of all data sets."""
        return [*self.datasets, *self.tables, *self.latents]

    def origin(self, dataset: str) -> str:
        """The data set whose rows there are: what latents are made of, or else the data set itself."""
        return self.latents[dataset].dataset if dataset in self.latents else dataset

    def kind(self, dataset: str) -> Literal["datasets", "tables"]:
        """The section that the rows of a data set are described in."""
        return "tables" if self.origin(dataset) in self.tables else "datasets"

    def known(self, dataset: str) -> str:
        """The key of what is known of a data set, as a MeasuredRow has it; of latents all is in their artifacts, too."""
        return f"datasets.{dataset}" if dataset in self.datasets else "compute"


class Cell(NamedTuple):
    """A data set with a method, as a block has it."""

    dataset: str
    method: str
    block: str

    def name(self, k: int) -> str:
        """The row of round k."""
        return f"{self.dataset}-{self.method}-round{k}"


def check_sections(sections: Sections) -> None:
    """What the blocks may name is there, under names that can be file names and words of a command."""
    for part in NAMED:
        for name in getattr(sections, part):
            if not NAME.fullmatch(name):
                raise Refused(f"{PARAMS}: {part}: {name!r} is not a usable name; use letters, digits, '-' and '_'")
    for name, row in sections.tables.items():
        if not isinstance(row.get("path"), str):
            said = f"{row['path']!r} should be the name of a file or folder" if "path" in row else "is missing"
            raise Refused(f"{PARAMS}: tables.{name}.path: {said}")
    for name, method in sections.methods.items():
        check_method(name, method, sections)
    for name in sections.samplers:
        member("samplers", name, sections.methods)
    if both := sorted(set(sections.datasets) & set(sections.tables)):
        raise Refused(f"{PARAMS}: tables.{both[0]}: {both[0]!r} is already a name in datasets; choose another")
    for name, latents in sections.latents.items():
        for part in ("datasets", "tables"):
            if name in getattr(sections, part):
                raise Refused(f"{PARAMS}: latents.{name}: {name!r} is already a name in {part}; choose another")
        member(f"latents.{name}.dataset", latents.dataset, [*sections.datasets, *sections.tables])
        member(f"latents.{name}.method", latents.method, sections.methods)


def member(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise Refused for a value that is none of the choices."""
    if value not in choices:
        raise Refused(f"{PARAMS}: {key}: {value!r} is not one of {', '.join(choices) or '(none)'}")


def unfold(sections: Sections) -> list[Cell]:
    """The blocks as cells. Raises Refused for what does not exist, or is there twice."""
    found: dict[str, Cell] = {}
    for name, block in sections.grid.items():
        check_block(name, block, sections)
        for cell in (Cell(dataset, method, name) for dataset in block.datasets for method in block.methods):
            if other := found.get(row := cell.name(0)):
                raise Refused(f"{PARAMS}: grid.{name}: {row} is a row of grid.{other.block} already; leave one of them out")
            found[row] = cell
    if not found:
        raise Refused(f"{PARAMS}: grid: {{}}: at least one block is needed, NAME: {{datasets: [...], methods: [...]}}")
    return list(found.values())


def check_method(name: str, method: Learning, sections: Sections) -> None:
    """All that a method names exists."""
    key = f"methods.{name}"
    if method.coupling is not None:
        member(f"{key}.coupling", method.coupling, sections.couplings)
    for part in ("teacher", "reflow"):
        if (other := getattr(method, part)) is not None:
            member(f"{key}.{part}", other, [each for each in sections.methods if each != name])
    if method.reflow is not None and method.coupling is not None:
        raise Refused(f"{PARAMS}: {key}.reflow: {method.reflow!r} gives the pairs; leave the coupling out, or this")
    member(f"{key}.objective", method.objective, OBJECTIVES)
    name_in(MODELS, method.model, f"{key}.model")
    name_in(NETWORKS, merged(sections.network, method.network), f"{key}.network" if method.network else "network")


def check_block(name: str, block: Block, sections: Sections) -> None:
    """Its data sets and methods exist, its rounds follow each other, and its network is one."""
    key = f"grid.{name}"
    for dataset in block.datasets:
        member(f"{key}.datasets", dataset, sections.problems)
    for method in block.methods:
        member(f"{key}.methods", method, sections.methods)
        if block.last and sections.methods[method].coupling is None:
            raise Refused(f"{PARAMS}: {key}: {method!r} has no coupling, so no pairs, and no rounds that make them anew")
        name_in(NETWORKS, network(sections, method, block), f"{key}.network")
    if block.until is not None and block.until <= block.rounds:
        raise Refused(f"{PARAMS}: {key}.until: {block.until} should be greater than rounds, {block.rounds}, or left out")


def network(sections: Sections, method: str, block: Block) -> dict[str, Any]:
    """The network of a method's rows in a block."""
    return merged(sections.network, sections.methods[method].network, block.network)


def in_order(sections: Sections, cells: Iterable[Cell]) -> list[tuple[Cell, int]]:
    """Cells and their rounds, in the order of `flows`."""
    rows = [(cell, k) for cell in cells for k in range(sections.grid[cell.block].last + 1)]
    return sorted(rows, key=lambda row: 0 if not row[1] else 1 if row[1] <= sections.grid[row[0].block].rounds else 2)


def trained(sections: Sections, cell: Cell) -> dict[str, str]:
    """What a cell's model and its network are called."""
    named = network(sections, cell.method, sections.grid[cell.block])["name"]
    return {"model": sections.methods[cell.method].model["name"], "network": named}
