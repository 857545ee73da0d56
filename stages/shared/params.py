"""Typed reading of `params.yaml` and of `grid.yaml`, the rows that follow from it.

Every section is a pydantic model that refuses unknown keys and wrong types. Options of library objects are read off their
signatures, so that a range or a default is stated once, where the object is. Whatever is wrong is reported in one line:
key, value and what would be right.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

PARAMS = Path("params.yaml")
GRID = Path("grid.yaml")  # what stages.grid makes of it

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Refused(Exception):
    """Input that cannot be used; the message is one line for the user."""


class Settings(BaseModel):
    """A section of `params.yaml`: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@cache
def read(path: Path = PARAMS) -> dict[str, Any]:
    """All of a file, read once."""
    return parse_file(path)


def parse_file(path: Path) -> dict[str, Any]:
    """All of a file, in YAML 1.2 as DVC reads it (1e-3 is a number). Raises Refused naming file and line."""
    try:
        content = YAML(typ="safe").load(path)
        json.dumps(content, default=str, skipkeys=True)
    except FileNotFoundError as error:
        raise Refused(f"{path} does not exist in {Path.cwd()}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise Refused(f"{path}, line {mark.line + 1 if mark else '?'}: {error.problem}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: not YAML text: {error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: 2020-13-45 looks like a date, or an anchor holds itself
        raise Refused(f"{path}: not what a parameter can be: {error}") from error
    if not isinstance(content, dict):
        raise Refused(f"{path}: expected sections, got {type(content).__name__}")
    return content


def section(content: Mapping[str, Any], key: str, file: Path = PARAMS) -> Any:
    """The value at a dotted key. Raises Refused naming the key and the choices beside it."""
    value: Any = content
    seen: list[str] = []
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            choices = ", ".join(map(str, value)) if isinstance(value, Mapping) else "nothing"
            raise Refused(f"{file}: {'.'.join([*seen, part])} is missing; there is {choices}")
        value = value[part]
        seen.append(part)
    return value


def parse(model: type[M], value: Any, key: str, file: Path = PARAMS) -> M:
    """`value` as `model`. Raises Refused naming key, value and what was expected."""
    if not isinstance(value, Mapping):
        raise Refused(f"{file}: {key}: {value!r} should be a section with keys {', '.join(model.model_fields)}")
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        raise Refused(f"{file}: {_first(error, key, model)}") from error


def _first(error: ValidationError, key: str, model: type[BaseModel]) -> str:
    found = error.errors(include_url=False)[0]
    where = ".".join(map(str, (key, *found["loc"]))).lstrip(".")
    if found["type"] == "extra_forbidden":
        choices = f"; the choices are {', '.join(model.model_fields)}" if len(found["loc"]) == 1 else ""
        return f"{where}: {found['input']!r}: unknown key{choices}"
    if found["type"] == "missing":
        return f"{where} is missing"
    if found["type"] in ("dict_type", "model_type"):
        return f"{where}: {found['input']!r}: should be a section of keys and values"
    return f"{where}: {found['input']!r}: {found['msg'][0].lower()}{found['msg'][1:]}"


def load(model: type[M], key: str, file: Path = PARAMS) -> M:
    """The section at a dotted key of a file, checked."""
    return parse(model, section(read(file), key, file), key, file)


def composed(
    base: type[M],
    call: Callable[..., Any],
    value: Any,
    key: str,
    given: tuple[str, ...] = (),
    tables: Mapping[str, Mapping[str, Callable[..., Any]]] | None = None,
) -> tuple[M, dict[str, Any]]:
    """A section that holds the fields of `base` and the options of `call` side by side, checked and taken apart.

    The options of a function are its keyword-only arguments, those of a class all; `given` names the ones that the
    program supplies and the user must not. An option in `tables` is an object of that registry, which `{name: ...,
    option: ...}` describes; one that is left out is the call's own default.
    """
    tables = tables or {}
    fields: dict[str, Any] = {
        name: (p.annotation, ... if p.default is Parameter.empty else p.default)
        for name, p in signature(call, eval_str=True).parameters.items()
        if name not in given and (isinstance(call, type) or p.kind is Parameter.KEYWORD_ONLY)
    }
    fields |= {name: (dict[str, Any] | None, None) for name in tables if name in fields}
    parsed = parse(create_model("Options", __base__=base, **fields), value, key)
    own = {name: getattr(parsed, name) for name in base.model_fields}
    options = {name: getattr(parsed, name) for name in fields if name not in tables}
    specs = {name: getattr(parsed, name) for name in fields if name in tables}
    options |= {name: named(tables[name], spec, f"{key}.{name}") for name, spec in specs.items() if spec is not None}
    return base.model_construct(**own), options


def build(call: Callable[..., T], value: Any, key: str, **given: Any) -> T:
    """`call` with the options of a section; a value that the object itself refuses becomes one line with its key."""
    return finish(call, composed(Settings, call, value, key, tuple(given))[1], key, **given)


def finish(call: Callable[..., T], arguments: Mapping[str, Any], key: str, **given: Any) -> T:
    """`call` with checked arguments; its own ValueError, which begins with the argument's name, gets the key."""
    try:
        return call(**arguments, **given)
    except ValueError as error:
        raise Refused(f"{PARAMS}: {key}.{error}") from error


def named(table: Mapping[str, Callable[..., T]], spec: Any, key: str, **given: Any) -> T:
    """The object that `{name: ..., option: ...}` describes, from a registry."""
    call, rest = lookup(table, spec, key)
    return build(call, rest, key, **given)


def lookup(table: Mapping[str, T], spec: Any, key: str) -> tuple[T, dict[str, Any]]:
    """The registry entry that a spec names and its other keys. Raises Refused with the names there are."""
    return table[name_in(table, spec, key)], {k: v for k, v in spec.items() if k != "name"}


def name_in(table: Mapping[str, Any], spec: Any, key: str) -> str:
    """The name in a spec, one of the table's; nothing is imported for it. Raises Refused with the names there are."""
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise Refused(f"{PARAMS}: {key}: {spec!r} should be a section with a name; the choices are {', '.join(table)}")
    if not isinstance(spec["name"], str) or spec["name"] not in table:
        raise Refused(f"{PARAMS}: {key}.name: {spec['name']!r} is not one of {', '.join(table)}")
    return spec["name"]


def merged(*sections: Mapping[str, Any]) -> dict[str, Any]:
    """One section from several, the later ones winning key by key; one with another `name` has other options."""
    result: dict[str, Any] = {}
    for part in sections:
        result = {**part} if part.get("name", result.get("name")) != result.get("name") else {**result, **part}
    return result
