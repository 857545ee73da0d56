"""What to run, row by row: `grid.yaml` follows from `params.yaml`, where a block of `grid` is data sets times methods times
rounds.

DVC reads rows and no blocks, and it reads them before any stage runs. So `grid.yaml` lies beside `params.yaml` in git, and
holds all that `dvc.yaml` must know of a row. Make and the flows write it anew before they begin; `stages.check` sees to it
where `dvc repro` is called by hand.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from rectiflow.gradient_flows import SCHEMES
from rectiflow.models import MODELS
from rectiflow.networks import NETWORKS
from rectiflow.objectives import OBJECTIVES
from stages.shared.bounds import BoundRow
from stages.shared.collapse import CollapseRow
from stages.shared.files import write_text
from stages.shared.judges import Asked, FeaturesRow, Judge, Judging
from stages.shared.latents import Decoded, Encoded, Latents
from stages.shared.modes import ModesRow
from stages.shared.movements import GradientFlow, Movement
from stages.shared.params import GRID, PARAMS, Refused, Settings, merged, name_in, parse, parse_file
from stages.shared.rows import BaselineRow, Choice, Couple, Draws, MeasuredRow, Override, Relation, Round
from stages.shared.start import run
from stages.shared.studies import Study
from stages.shared.teachers import Learning, Taught

Measuring = TypeVar("Measuring", MeasuredRow, BoundRow)
Rows = dict[str, dict[str, dict[str, Any]]]

NAMED = (
    "datasets", "tables", "latents", "couplings", "methods", "grid", "choices", "relations", "baselines", "gradient_flows",
    "judges",
)  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
HEADER = "# Written by `python -m stages.grid` from the blocks of params.yaml, a row a line: edits are lost.\n"


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


def expand(content: Mapping[str, Any]) -> Rows:
    """The sections of `grid.yaml`: `encoded`, `couples`, `flows`, `reflows`, `until`, `samples`, `decoded`, `densities`,
    `modes`, `bounds`, `tokens`, `judging`, `features`, `given`, `rollouts`, `collapses`, `baselined`, `movements`.

    Raises Refused in one line. Rows come in the order of the blocks, and so do data sets and methods in the report.
    """
    sections = parse(Sections, {key: content[key] for key in Sections.model_fields if key in content}, "")
    check_sections(sections)
    cells = unfold(sections)
    return {
        "encoded": plain(encoded(sections, cells)),
        "couples": plain(couples(sections, cells)),
        "flows": plain(flows(sections, cells)),
        **{part: plain(rounds(sections, cells, part == "until")) for part in ("reflows", "until")},
        "samples": plain(draws(sections, cells)),
        "decoded": plain(decoded(sections, cells)),
        "densities": plain(densities(sections, cells)),
        "modes": plain(modes(sections, cells)),
        "bounds": plain(bounds(sections, cells)),
        "tokens": plain(tokens(sections, cells)),
        "judging": plain(judging(sections)),
        "features": plain(features(sections, cells)),
        **{option: plain(given(sections, cells, option)) for option in ("given", "rollouts")},
        "collapses": plain(collapses(sections, cells)),
        "baselined": plain(baselined(sections, content.get("density"))),
        "movements": plain(movements(sections)),
    }


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


def couples(sections: Sections, cells: Iterable[Cell]) -> dict[str, Couple]:
    """The pairs that the flows of round 0 and the choices are trained on."""
    used = {(cell.dataset, coupling) for cell in cells if (coupling := sections.methods[cell.method].coupling)}
    for choice in sections.choices.values():
        used |= {(choice.dataset, name) for name in sections.couplings if choice.pairs == f"couple/{choice.dataset}-{name}"}
    found: dict[str, Couple] = {}
    for dataset in sections.problems:
        for coupling in sections.couplings:
            if (dataset, coupling) in used:
                row = Couple(dataset=dataset, coupling=coupling)
                if (other := found.setdefault(f"{dataset}-{coupling}", row)) != row:
                    raise Refused(
                        f"{PARAMS}: couplings: {coupling!r} of {dataset!r} has the name of {other.coupling!r} of "
                        f"{other.dataset!r}, {dataset}-{coupling}; rename one of them"
                    )
    return found


def flows(sections: Sections, cells: list[Cell]) -> dict[str, Taught]:
    """All that is trained: round 0 of every cell, then the rounds of `reflows`, then those that end by themselves."""
    found: dict[str, Taught] = {}
    there = {(other.dataset, other.method): other for other in cells}
    for cell, k in in_order(sections, cells):
        block, method = sections.grid[cell.block], sections.methods[cell.method]
        # A round continues the network of the round before.
        override = {"network": {} if k else block.network, "training": block.training}
        found[cell.name(k)] = Taught(
            dataset=cell.dataset,
            method=cell.method,
            round=k,
            data=f"reflow/{cell.name(k)}" if k else data(cell, sections, there),
            objective="matching" if k else method.objective,  # a round regresses a velocity, whatever round 0 did
            override=Override(**override),
            **trained(sections, cell),
            **teaching(cell, k, sections, there),
        )
    return found


def in_order(sections: Sections, cells: Iterable[Cell]) -> list[tuple[Cell, int]]:
    """Cells and their rounds, in the order of `flows`."""
    rows = [(cell, k) for cell in cells for k in range(sections.grid[cell.block].last + 1)]
    return sorted(rows, key=lambda row: 0 if not row[1] else 1 if row[1] <= sections.grid[row[0].block].rounds else 2)


def teaching(cell: Cell, k: int, sections: Sections, there: Mapping[tuple[str, str], Cell]) -> dict[str, str]:
    """The teacher of a row, as `Taught` has it; rounds of rectification have none."""
    taught = sections.methods[cell.method].teacher is not None and not k
    of = another(cell, "teacher", sections, there) if taught else cell
    teacher = f"train/{of.name(0)}" if taught else f"generate/{cell.dataset}"
    return {"teacher": teacher, **{f"teacher_{part}": name for part, name in trained(sections, of).items()}}


def another(cell: Cell, part: str, sections: Sections, there: Mapping[tuple[str, str], Cell]) -> Cell:
    """The cell of the same data set whose method a `teacher` or a `reflow` names."""
    name = getattr(sections.methods[cell.method], part)
    if (found := there.get((cell.dataset, name))) is None:
        raise Refused(f"{PARAMS}: methods.{cell.method}.{part}: {name!r} is not trained on {cell.dataset!r} in the grid")
    return found


def data(cell: Cell, sections: Sections, there: Mapping[tuple[str, str], Cell]) -> str:
    """What round 0 is trained on."""
    method = sections.methods[cell.method]
    if method.reflow is not None:
        other = another(cell, "reflow", sections, there)
        if not sections.grid[other.block].last:
            raise Refused(f"{PARAMS}: methods.{cell.method}.reflow: {method.reflow!r} has no rounds in grid.{other.block}")
        return f"reflow/{other.name(1)}"
    if method.auto:
        if f"{cell.dataset}-{cell.method}" not in sections.choices:
            raise Refused(
                f"{PARAMS}: grid.{cell.block}: the path of {cell.method!r} is not chosen for {cell.dataset!r}; add the row "
                f"{cell.dataset}-{cell.method} to choices"
            )
        return f"train/{cell.dataset}-{cell.method}"
    return f"couple/{cell.dataset}-{method.coupling}" if method.coupling else f"generate/{cell.dataset}"


def rounds(sections: Sections, cells: Iterable[Cell], until: bool) -> dict[str, Round]:
    """The rounds that are run in any case, or those that end by themselves."""
    found: dict[str, Round] = {}
    for cell, k in in_order(sections, cells):
        if k and (k > sections.grid[cell.block].rounds) == until:
            found[cell.name(k)] = Round(dataset=cell.dataset, flow=cell.name(k - 1), **trained(sections, cell))
    return found


def draws(sections: Sections, cells: Iterable[Cell]) -> dict[str, Draws]:
    """What is drawn from each flow: a method's own samplers draw from round 0."""
    found: dict[str, Draws] = {}
    for cell, k in in_order(sections, cells):
        coupling = sections.methods[cell.method].coupling
        kind = sections.couplings[coupling].get("name") if coupling else None
        own = sections.samplers.get(cell.method, [])
        found[cell.name(k)] = Draws(independent=kind == "independent" and not k, samplers=[] if k else own)
    return found


def encoded(sections: Sections, cells: Iterable[Cell]) -> dict[str, Encoded]:
    """The data sets that are the latents of a bottleneck of the grid."""
    there = {(cell.dataset, cell.method): cell for cell in cells}
    found: dict[str, Encoded] = {}
    for name, row in sections.latents.items():
        if (cell := there.get((row.dataset, row.method))) is None:
            raise Refused(f"{PARAMS}: latents.{name}: {row.method!r} is not trained on {row.dataset!r} in the grid")
        found[name] = Encoded(dataset=row.dataset, bottleneck=cell.name(0), **trained(sections, cell))
    return found


def decoded(sections: Sections, cells: Iterable[Cell]) -> dict[str, Decoded]:
    """What is drawn of latents and brought back: as if it were drawn from a method LATENTS-METHOD of the data set."""
    cells = list(cells)
    made, taken = encoded(sections, cells), {cell.name(k) for cell, k in in_order(sections, cells)}
    found: dict[str, Decoded] = {}
    for cell, k in in_order(sections, cells):
        if (of := made.get(cell.dataset)) is None:
            continue
        method = f"{cell.dataset}-{cell.method}"
        if (name := Cell(of.dataset, method, "").name(k)) in taken | found.keys():
            raise Refused(f"{PARAMS}: latents.{cell.dataset}: what is decoded has the name of the row {name}; rename one")
        noise = sections.latents[cell.dataset].noise
        found[name] = Decoded(**dict(of), method=method, round=k, flow=cell.name(k), noise=noise)
    return found


def asked(sections: Sections, cells: Iterable[Cell], option: str) -> list[tuple[str, Cell, dict[str, Any]]]:
    """The rows whose block has an option that may be empty: their names, cells and what the option says."""
    rows = ((cell.name(k), cell, getattr(sections.grid[cell.block], option)) for cell, k in in_order(sections, cells))
    return [(name, cell, override) for name, cell, override in rows if override is not None]


def trained(sections: Sections, cell: Cell) -> dict[str, str]:
    """What a cell's model and its network are called."""
    named = network(sections, cell.method, sections.grid[cell.block])["name"]
    return {"model": sections.methods[cell.method].model["name"], "network": named}


def of_models(
    sections: Sections, cells: Iterable[Cell], option: str, kind: type[Measuring], **facts: Callable[[str], Any]
) -> dict[str, Measuring]:
    """The rows of a kind of measures of trained models, of which a block asks for some by an option; `facts` are further
    ones of their data sets.
    """
    return {
        name: kind(
            dataset=cell.dataset,
            override=override,
            **{fact: of(cell.dataset) for fact, of in facts.items()},
            **trained(sections, cell),
        )
        for name, cell, override in asked(sections, cells, option)
    }


def densities(sections: Sections, cells: Iterable[Cell]) -> dict[str, MeasuredRow]:
    """The models whose densities are measured."""
    return of_models(sections, cells, "density", MeasuredRow, known=sections.known)


def tokens(sections: Sections, cells: Iterable[Cell]) -> dict[str, MeasuredRow]:
    """The models of tokens that are measured."""
    return of_models(sections, cells, "tokens", MeasuredRow, known=sections.known)


def asked_of_draws(sections: Sections, cells: list[Cell], option: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The same of what is measured of draws: those of latents once they are decoded, too. The data set of every row, and
    what the option says.
    """
    rows = {name: (cell.dataset, override) for name, cell, override in asked(sections, cells, option)}
    back = {name: row for name, row in decoded(sections, cells).items() if row.flow in rows}
    return rows | {name: (row.dataset, rows[row.flow][1]) for name, row in back.items()}


def modes(sections: Sections, cells: list[Cell]) -> dict[str, ModesRow]:
    """The models whose draws are measured by modes, precision and recall."""
    rows = asked_of_draws(sections, cells, "modes")
    return {name: ModesRow(dataset=dataset, override=override) for name, (dataset, override) in rows.items()}


def judging(sections: Sections) -> dict[str, Judging]:
    """The judges that are trained."""
    found: dict[str, Judging] = {}
    for name, judge in sections.judges.items():
        member(f"judges.{name}.dataset", judge.dataset, [*sections.datasets, *sections.tables])
        key = f"judges.{name}.network" if judge.network else "network"
        found[name] = Judging(dataset=judge.dataset, network=name_in(NETWORKS, merged(sections.network, judge.network), key))
    return found


def features(sections: Sections, cells: list[Cell]) -> dict[str, FeaturesRow]:
    """The models whose draws a judge sees. It sees no latents: what is drawn of these is decoded first."""
    judges, found = judging(sections), dict[str, FeaturesRow]()
    for block, of in sections.grid.items():
        if of.features is not None:
            member(f"grid.{block}.features.judge", parse(Asked, of.features, f"grid.{block}.features").judge, judges)
    for name, (dataset, said) in asked_of_draws(sections, cells, "features").items():
        if dataset not in sections.latents:
            row = parse(Asked, said, f"features.{name}")
            network = judges[row.judge].network
            found[name] = FeaturesRow(dataset=dataset, judge=row.judge, network=network, override=row.override)
    return found


def bounds(sections: Sections, cells: Iterable[Cell]) -> dict[str, BoundRow]:
    """The bottlenecks whose bounds are measured."""
    return of_models(sections, cells, "bound", BoundRow)


def given(sections: Sections, cells: Iterable[Cell], option: str) -> dict[str, MeasuredRow]:
    """The conditional models that are measured by `given` or `rollouts`."""
    return of_models(sections, cells, option, MeasuredRow, known=sections.known)


def collapses(sections: Sections, cells: Iterable[Cell]) -> dict[str, CollapseRow]:
    """The models whose latents are measured."""
    rows = asked(sections, cells, "collapse")
    return {name: CollapseRow(dataset=cell.dataset, **trained(sections, cell)) for name, cell, _ in rows}


def baselined(sections: Sections, shared: Any) -> dict[str, BaselineRow]:
    """The data sets whose densities are measured, with their outliers; `shared` is the section `density`."""
    found: dict[str, BaselineRow] = {}
    for name, block in sections.grid.items() if sections.baselines else ():
        if block.density is None:
            continue
        given = {**(shared if isinstance(shared, Mapping) else {}), **block.density}
        for dataset in block.datasets:
            row = BaselineRow(known=sections.known(dataset), train=given.get("train"), outliers=given.get("outliers"))
            other = found.get(dataset, row)
            if other.train != row.train or (None not in (other.outliers, row.outliers) and other.outliers != row.outliers):
                raise Refused(
                    f"{PARAMS}: grid.{name}.density: outliers and train of {dataset!r} are others than in another block; "
                    f"baselines are measured once a data set"
                )
            found[dataset] = other if row.outliers is None else row
    return found


def movements(sections: Sections) -> dict[str, Movement]:
    """The gradient flows that are followed."""
    found: dict[str, Movement] = {}
    for name, row in sections.gradient_flows.items():
        member(f"gradient_flows.{name}.dataset", row.dataset, sections.datasets)
        found[name] = Movement(
            dataset=row.dataset,
            scheme=name_in(SCHEMES, row.scheme, f"gradient_flows.{name}.scheme"),
            data=f"train/{row.teacher}" if row.teacher else f"generate/{row.dataset}",
        )
    return found


def studies(content: Mapping[str, Any]) -> dict[str, Study]:
    """The rows of `studies`, each with the data sets and methods that it compares. Raises Refused in one line."""
    found = {name: parse(Study, row, f"studies.{name}") for name, row in content["studies"].items()}
    for name, study in found.items():
        if study.of is not None:
            member(f"studies.{name}.of", study.of, content["grid"])
        block = parse(Block, content["grid"][study.of], f"grid.{study.of}") if study.of is not None else None
        named = {part: getattr(study, part) or getattr(block, part, []) for part in ("datasets", "methods")}
        for part, rows in named.items():
            if not rows:
                raise Refused(f"{PARAMS}: studies.{name}.{part} is missing; name them, or by `of` a block of the grid")
        found[name] = study.model_copy(update=named)
    return found


# ---- The file.


def plain(rows: Mapping[str, BaseModel]) -> dict[str, dict[str, Any]]:
    """Rows as they are written: without what is empty by default."""
    return {name: row.model_dump(exclude_defaults=True) for name, row in rows.items()}


def render(rows: Rows) -> str:
    """The text of `grid.yaml`: JSON, which is YAML too, and which DVC reads in less time than words without quotes."""
    lines = [HEADER]
    for part, of in rows.items():
        lines += [f"{part}:{'' if of else ' {}'}\n", *(f"  {as_json(name)}: {as_json(row)}\n" for name, row in of.items())]
    return "".join(lines)


def as_json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def write_grid(root: Path = Path()) -> bool:
    """Bring a project's `grid.yaml` up to date; whether it was not. Raises Refused."""
    text, path = render(expand(parse_file(root / PARAMS))), root / GRID
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def main(_: list[str]) -> None:
    """`python -m stages.grid`"""
    if write_grid():
        print(f"{GRID} is written anew")


if __name__ == "__main__":
    run(main)
