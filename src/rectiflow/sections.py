"""`{"name": ..., option: ...}`: how an entry of a table is described."""

from collections.abc import Mapping
from typing import Any


def sectioned(key: str, value: Any) -> dict[str, Any]:
    """A section with a name, of which the name alone will do. Raises ValueError, naming the key, for anything else."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(f"{key}: {value!r} should be a name, or a section with a name")
    return dict(value)
