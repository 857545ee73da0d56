"""What to run, row by row: `grid.yaml` follows from `params.yaml`, where a block of `grid` is data sets times methods times
rounds.

DVC reads rows and no blocks, and it reads them before any stage runs. So `grid.yaml` lies beside `params.yaml` in git, and
holds all that `dvc.yaml` must know of a row. Make and the flows write it anew before they begin; `stages.check` sees to it
where `dvc repro` is called by hand.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rectiflow.gradient_flows import SCHEMES
from stages.shared.blocks import Block, Cell, Sections, check_sections, in_order, member, trained, unfold
from stages.shared.files import write_text
from stages.shared.movements import Movement
from stages.shared.outcomes import baselined, bounds, collapses, decoded, encoded, features, judging, measured, modes
from stages.shared.params import GRID, PARAMS, Refused, name_in, parse, parse_file
from stages.shared.rows import Couple, Draws, Override, Round
from stages.shared.start import run
from stages.shared.studies import Study
from stages.shared.teachers import Taught

Rows = dict[str, dict[str, dict[str, Any]]]

HEADER = "# Written by `python -m stages.grid` from the blocks of params.yaml, a row a line: edits are lost.\n"


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
        "densities": plain(measured(sections, cells, "density")),
        "modes": plain(modes(sections, cells)),
        "bounds": plain(bounds(sections, cells)),
        "tokens": plain(measured(sections, cells, "tokens")),
        "judging": plain(judging(sections)),
        "features": plain(features(sections, cells)),
        **{option: plain(measured(sections, cells, option)) for option in ("given", "rollouts")},
        "collapses": plain(collapses(sections, cells)),
        "baselined": plain(baselined(sections, content.get("density"))),
        "movements": plain(movements(sections)),
    }


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
