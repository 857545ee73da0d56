"""Tables of names whose entries are imported when they are looked up, and what describes an entry in plain values.

A look-up of one entry imports no other: no stage waits for the imports of families that it does not use, and an edit to one
family concerns that family alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any


class Registry(Mapping[str, Any]):
    """Names and where their classes are: `{"mlp": "rectiflow.networks.mlp:MLP"}`."""

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.places[name].partition(":")
        return getattr(import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def name(self, kind: type) -> str:
        """The name of a class. Raises ValueError for one that has none."""
        place = f"{kind.__module__}:{kind.__qualname__}"
        for name, known in self.places.items():
            if known == place:
                return name
        raise ValueError(f"{place} is not one of {', '.join(self.places.values())}")


def described(name: str, thing: Any) -> dict[str, Any]:
    """`{name: ..., option: ...}` of a frozen description."""
    return {"name": name, **{field.name: getattr(thing, field.name) for field in fields(thing)}}


def name_of(table: Mapping[str, Any], part: Any) -> str:
    """The name that an object's class has in a table."""
    return next(name for name, kind in table.items() if kind is type(part))


def built(table: Mapping[str, Any], spec: Mapping[str, Any]) -> Any:
    """What `described` described. Raises ValueError for a name or an option that the table's entry does not know."""
    name, options = spec["name"], {key: value for key, value in spec.items() if key != "name"}
    if name not in table:
        raise ValueError(f"{name!r} is not one of {', '.join(table)}")
    try:
        return table[name](**options)
    except TypeError as error:
        raise ValueError(f"{name!r} has not the options {', '.join(options)}") from error
