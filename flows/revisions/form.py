"""What a run form asks for, written into `params.yaml`: blocks of the grid, seeds, single keys."""

import json
from collections.abc import Iterator, MutableMapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.grid import expand, studies
from stages.shared.blocks import member
from stages.shared.files import write_text
from stages.shared.params import PARAMS, Refused, section

Rows = MutableMapping[str, Any]

SHARED = ("network", "training")  # what a block may override


def regrid(content: Rows, datasets: Sequence[str], methods: Sequence[str], rounds: int | None) -> None:
    """Narrow the blocks of the grid to what is asked for, and add what they lack. What is left open (an empty list, None)
    stays as it is in the grid.
    """
    for value in datasets:
        member("datasets", value, [*content["datasets"], *content["tables"], *content.get("latents", {})])
    for value in methods:
        member("methods", value, content["methods"])
    grid, old = content["grid"], [dict(block) for block in content["grid"].values()]
    new = lacking(datasets or [*dict.fromkeys(name for block in old for name in block["datasets"])], methods, content)
    for name, block in list(grid.items()):
        for part, asked in (("datasets", datasets), ("methods", methods)):
            if asked:
                block[part] = line([value for value in block[part] if value in asked])
        if not block["datasets"] or not block["methods"]:
            del grid[name]
    for block in new:
        name = "asked"
        while name in grid:
            name += "_"
        grid[name] = line(block)
    for block in grid.values() if rounds is not None else ():
        # What has no pairs has no rounds; whoever names it is told so.
        if methods or all("coupling" in content["methods"][name] for name in block["methods"]):
            ends = "until" in block and rounds > block.get("rounds", 0)
            block["until" if ends else "rounds"] = rounds
            if not ends:
                block.pop("until", None)
    for name, block in bottlenecks(content, old):
        grid[name] = line(block)


def bottlenecks(content: Rows, old: Sequence[Rows]) -> Iterator[tuple[str, Rows]]:
    """Blocks that train what the latents in the grid are made by, where no block does any more."""
    for name, row in content.get("latents", {}).items():
        blocks = content["grid"].values()
        there = any(row["dataset"] in block["datasets"] and row["method"] in block["methods"] for block in blocks)
        if not there and any(name in block["datasets"] for block in blocks):
            was = [block for block in old if row["dataset"] in block["datasets"] and row["method"] in block["methods"]]
            shared = {key: was[0][key] for key in SHARED if was and key in was[0]}
            yield f"{name}_", {"datasets": [row["dataset"]], "methods": [row["method"]], **shared}


def lacking(datasets: Sequence[str], methods: Sequence[str], content: Rows) -> list[dict[str, Any]]:
    """A block for each data set with the methods that the grid does not have on it; all methods for one that is in no block.

    Where all blocks of a data set override the same keys, so does the new one: a new method gets the same network.
    """
    found: list[dict[str, Any]] = []
    for dataset in datasets:
        blocks = [block for block in content["grid"].values() if dataset in block["datasets"]]
        have = {method for block in blocks for method in block["methods"]}
        if wanted := [name for name in methods or ([] if blocks else content["methods"]) if name not in have]:
            first = blocks[0] if blocks else {}
            shared = {
                key: first[key] for key in SHARED if first.get(key) and all(block.get(key) == first[key] for block in blocks)
            }
            found.append({"datasets": [dataset], "methods": wanted, **shared})
    return found


def drop(content: Rows) -> None:
    """Take away the rows beyond the grid that speak of flows which are not in it."""
    blocks = content["grid"].values()
    cells = {f"{dataset}-{method}" for block in blocks for dataset in block["datasets"] for method in block["methods"]}
    used = {dataset for block in blocks for dataset in block["datasets"]}
    for name in set(content.get("latents", {})) - used:
        del content["latents"][name]
    for name in set(content["choices"]) - cells:
        del content["choices"][name]
    for name in [name for name, study in content["studies"].items() if study.get("of", "") not in ["", *content["grid"]]]:
        del content["studies"][name]
    rows = expand(plain(content))
    flows, decoded = rows["flows"], {f"{row['dataset']}-{row['method']}" for row in rows["decoded"].values()}
    for name, study in studies(content).items():
        if not {f"{dataset}-{method}" for dataset in study.datasets for method in study.methods} <= cells | decoded:
            del content["studies"][name]
    for name in [name for name, row in content["relations"].items() if {row["first"], row["second"]} - set(flows)]:
        del content["relations"][name]


def line(value: Any) -> Any:
    """Mappings and lists that are written in one line."""
    return YAML().load(json.dumps(value))


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


def text(content: Rows) -> str:
    """The file, comments and anchors kept."""
    yaml, out = YAML(), StringIO()
    yaml.width, yaml.preserve_quotes = 4096, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(content, out)
    return out.getvalue()


def plain(content: Rows) -> dict[str, Any]:
    """The parameters as the stages read them."""
    return YAML(typ="safe").load(text(content))


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
    yaml.preserve_quotes = True
    content = yaml.load(path.read_text())
    before = plain(content)
    if datasets or methods or rounds is not None:
        expand(before)
        regrid(content, datasets, methods, rounds)
        drop(content)
    if seeds:
        content["seeds"][:] = seeds
    for key in overrides:
        override(content, key)
    after = plain(content)
    if after == before:
        return False
    expand(after)  # what cannot be changes no file
    write_text(path, text(content))
    return True
