"""What is made of the trained models of the grid, and measured: latents, what is decoded, what a judge sees, densities."""

from collections.abc import Iterable, Mapping
from typing import Any

from rectiflow.networks import NETWORKS
from stages.shared.blocks import Cell, Sections, in_order, member, trained
from stages.shared.bounds import BoundRow
from stages.shared.collapse import CollapseRow
from stages.shared.judges import Asked, FeaturesRow, Judging
from stages.shared.latents import Decoded, Encoded
from stages.shared.modes import ModesRow
from stages.shared.params import PARAMS, Refused, merged, name_in, parse
from stages.shared.rows import BaselineRow, MeasuredRow


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


def measured(sections: Sections, cells: Iterable[Cell], option: str) -> dict[str, MeasuredRow]:
    """The trained models that are measured beside what is known of their target, where a block says so by an option."""
    return {
        name: MeasuredRow(
            dataset=cell.dataset, known=sections.known(cell.dataset), override=override, **trained(sections, cell)
        )
        for name, cell, override in asked(sections, cells, option)
    }


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
    rows = asked(sections, cells, "bound")
    return {
        name: BoundRow(dataset=cell.dataset, override=override, **trained(sections, cell)) for name, cell, override in rows
    }


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
