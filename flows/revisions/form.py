"""What a run form asks for, as rows of `params.yaml`: data sets times methods, a number of rounds, seeds, single keys."""

import re
from collections.abc import Mapping, MutableMapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from stages.shared.io import write_text
from stages.shared.params import PARAMS, Refused, section

Rows = MutableMapping[str, Any]

ROW = re.compile(r"(?P<pair>.+)-round(?P<k>\d+)")
SHARED = ("network", "training")  # what a row may override


def present(content: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """The `(data set, method)` pairs of the grid and the last round of each."""
    found: dict[tuple[str, str], int] = {}
    for name, row in [*content["round0"].items(), *content["reflows"].items(), *content["until"].items()]:
        key = (row["dataset"], row["method"])
        found[key] = max(found.get(key, 0), int(ROW.fullmatch(name)["k"]))
    return found


def chosen(
    content: Mapping[str, Any], datasets: Sequence[str], methods: Sequence[str], rounds: int | None
) -> dict[tuple[str, str], int]:
    """The pairs to run and the last round of each. What is left open (an empty list, None) stays as it is in the grid."""
    before = present(content)
    names = [*content["datasets"], *content["tables"]]
    for key, given, choices in (("datasets", datasets, names), ("methods", methods, list(content["methods"]))):
        for value in given:
            if value not in choices:
                raise Refused(f"{key}: {value!r} is not one of {', '.join(choices)}")
    if methods:  # every chosen data set with every chosen method
        pairs = [(d, m) for d in (datasets or dict.fromkeys(d for d, _ in before)) for m in methods]
    else:
        pairs = [pair for pair in before if not datasets or pair[0] in datasets]
        pairs += [(d, m) for d in datasets if not any(d == pair[0] for pair in before) for m in content["methods"]]
    return {pair: before.get(pair, 0) if rounds is None else rounds for pair in pairs}


def regrid(content: Rows, pairs: Mapping[tuple[str, str], int]) -> None:
    """Replace the rows of `couples`, `round0`, `reflows` and `until` by those of the pairs; a row that stays is kept."""
    old = {part: dict(content[part]) for part in ("couples", "round0", "reflows", "until")}
    new: dict[str, dict[str, Any]] = {part: {} for part in old}
    for (dataset, method), last in pairs.items():
        coupling, name = content["methods"][method]["coupling"], f"{dataset}-{method}"
        couple = f"{dataset}-{coupling}"
        new["couples"][couple] = old["couples"].get(couple, {"dataset": dataset, "coupling": coupling})
        auto = content["methods"][method]["interpolant"].get("name") == "auto"
        pairs_of = f"train/{name}" if auto else f"couple/{couple}"
        fresh = {"dataset": dataset, "method": method, "pairs": pairs_of, **_shared(old["round0"], dataset)}
        new["round0"][f"{name}-round0"] = old["round0"].get(f"{name}-round0", fresh)
        for k in range(1, last + 1):
            row = f"{name}-round{k}"
            fresh = {"dataset": dataset, "method": method, "pairs": f"reflow/{row}", "flow": f"{name}-round{k - 1}"}
            part = "until" if row in old["until"] else "reflows"
            new[part][row] = old[part].get(row, fresh)
    for part, rows in new.items():
        # In the order they had, and in place: `flows` refers to these very mappings.
        order = [name for name in old[part] if name in rows] + [name for name in rows if name not in old[part]]
        content[part].clear()
        content[part].update({name: _line(rows[name]) for name in order})
    drop(content, {**new["round0"], **new["reflows"], **new["until"]})


def drop(content: Rows, flows: Mapping[str, Any]) -> None:
    """Take away the rows beyond the grid that speak of flows which are not in it."""
    needs = {
        "choices": lambda name, _: [f"{name}-round0"],
        "relations": lambda _, row: [row["first"], row["second"]],
        "studies": lambda _, row: [f"{dataset}-{method}-round0" for dataset in row["datasets"] for method in row["methods"]],
    }
    for part, needed in needs.items():
        for name in [name for name, row in content[part].items() if set(needed(name, row)) - set(flows)]:
            del content[part][name]


def _line(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row in one line, `{key: value, ...}`; one that was in the file stays as it was written."""
    if isinstance(row, CommentedMap):
        return row
    line = CommentedMap(row)
    line.fa.set_flow_style()
    return line


def _shared(rows: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """What all rows of a data set override alike: a new method on it gets the same network."""
    said = [{key: row.get(key) for key in SHARED} for row in rows.values() if row["dataset"] == dataset]
    return {key: said[0][key] for key in SHARED if said and said[0][key] and all(one[key] == said[0][key] for one in said)}


def override(content: Rows, text: str) -> None:
    """`training.lr=0.004`: set one key. The sections above it must exist; the stages check the rest.

    Raises Refused for what is not `KEY=VALUE`, for a section that does not exist, and for a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or not value.strip():
        raise Refused(f"overrides: {text!r} should be KEY=VALUE, for example training.lr=0.004")
    *above, last = key.split(".")
    try:
        where = section(content, ".".join(above)) if above else content
    except Refused as error:
        raise Refused(f"overrides: {text!r}: {str(error).removeprefix(f'{PARAMS}: ')}") from error
    if not isinstance(where, MutableMapping):
        raise Refused(f"overrides: {text!r}: {'.'.join(above)} is {where!r}, not a section")
    if not above and last not in content:
        raise Refused(f"overrides: {text!r}: {last!r} is not one of {', '.join(content)}")
    try:
        where[last] = YAML(typ="safe").load(value)
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: 2020-13-45 looks like a date
        raise Refused(f"overrides: {text!r}: {value!r} is not a YAML value") from error


def write(
    root: Path,
    datasets: Sequence[str] = (),
    methods: Sequence[str] = (),
    rounds: int | None = None,
    seeds: Sequence[int] = (),
    overrides: Sequence[str] = (),
) -> bool:
    """Put all of it into `params.yaml`, comments and anchors kept; whether anything changed. Raises Refused."""
    yaml, path = YAML(), root / PARAMS
    yaml.width, yaml.preserve_quotes = 4096, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(path.read_text())
    pairs = chosen(content, datasets, methods, rounds)
    changed = pairs != present(content)
    if changed:
        regrid(content, pairs)
    if seeds:
        changed |= list(content["seeds"]) != list(seeds)
        content["seeds"][:] = seeds
    for text in overrides:
        override(content, text)
    if not changed and not overrides:
        return False

    out = StringIO()
    yaml.dump(content, out)
    write_text(path, out.getvalue())
    return True
