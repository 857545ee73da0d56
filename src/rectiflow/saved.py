"""Trained models as files: one safetensors file holds the weights, and in JSON what they are of.

A digest of all of it stands in the file, so that damage is told and not drawn from.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from rectiflow.conditions import Condition
from rectiflow.digests import digest
from rectiflow.files import write_bytes
from rectiflow.models.record import put_together, taken_apart
from rectiflow.origin import Origin
from rectiflow.registry import built, described, name_of
from rectiflow.trained import Trained
from rectiflow.units import UNITS

VERSION = 1  # of the description
STAGES = "model.safetensors"  # what a stage calls its weights


def save(trained: Trained, path: Any) -> None:
    """Write a trained model as one file, whole or not at all. The same model gives the same bytes."""
    write_bytes(Path(path), content(trained))


def content(trained: Trained) -> bytes:
    """What the file of a trained model holds."""
    tensors, spec = taken_apart(trained.model)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    spec |= {
        "seeds": list(trained.seeds),
        "origin": origin_spec(trained.origin),
        "facts": dict(trained.facts),
        "version": VERSION,
    }
    spec["digest"] = digest(tensors, spec)
    # One metadata entry: the format does not fix the order of several.
    found: bytes = to_bytes(tensors, {"spec": json.dumps(spec, sort_keys=True)})
    return found


def load(path: Any, *, rev: str | None = None, root: Any = ".") -> Trained:
    """A trained model from a file that `save` or `rectiflow export` wrote; or the model of a name in the project at `root`,
    as it is or as the git revision `rev` had it, for which rectiflow[pipeline] is needed.

    Raises FileNotFoundError for a file or a model that is not there, with the nearest name, and ValueError for one that is
    damaged, of another version, or no model. The weights of a stage, `model.safetensors`, say nothing of units, which are
    those of its project; away from it they are loaded as a model of x itself that starts from N(0, I).
    """
    file = rev is None and Path(path).suffix == ".safetensors"
    if file and Path(path).name != STAGES:
        return read(Path(path))
    from importlib import import_module

    try:
        project = import_module("rectiflow_command.models")  # it stands above the library, and need not be installed
    except ModuleNotFoundError as error:
        if file:
            return read(Path(path))
        raise ModuleNotFoundError(f"a model of a project needs {error.name}: pip install 'rectiflow[pipeline]'") from error
    found: Trained = project.load(str(path), Path(root), rev)
    return found


def read(path: Path) -> Trained:
    """A trained model from a file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        return of_bytes(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def of_bytes(data: bytes) -> Trained:
    """A trained model from a file's content. Raises ValueError for what is damaged, of another version, or no model."""
    try:
        tensors = from_bytes(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"damaged, or no safetensors file: {error}") from error
    spec = header.get("__metadata__", {}).get("spec")
    if spec is None:
        raise ValueError("no model of rectiflow, as nothing says how it is built")
    try:
        return rebuilt(tensors, json.loads(spec))
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"a model of another version: {error}") from error


def rebuilt(tensors: Mapping[str, Tensor], spec: dict[str, Any]) -> Trained:
    """A trained model from its arrays and their description. Raises ValueError for what is damaged or of another version."""
    if (version := spec.get("version", VERSION)) != VERSION:
        raise ValueError(f"a model of version {version}; this is version {VERSION}")
    told = spec.pop("digest", None)
    if told is not None and told != digest(tensors, spec):
        raise ValueError("damaged: it is not what was written")
    model = put_together(tensors, spec)
    dim = tensors["shift"].shape[-1]
    origin = origin_of(spec["origin"]) if "origin" in spec else Origin((("x", dim),))
    return Trained(model, tuple(spec["seeds"]), origin, spec.get("facts", {}))


def origin_spec(origin: Origin) -> dict[str, Any]:
    """What a model's numbers stand for, in plain values."""
    units = origin.units
    return {
        "columns": [list(column) for column in origin.columns],
        "units": None if units is None else described(name_of(UNITS, units), units),
        "source": None if origin.source is None else dict(origin.source),
        "given": origin.given,
        "independent": origin.independent,
        "classes": list(origin.classes),
        "condition": None if origin.condition is None else condition_spec(origin.condition),
        "shape": list(origin.shape),
        **({"vocabulary": list(origin.vocabulary)} if origin.vocabulary else {}),
        **({"words": [list(column) for column in origin.words]} if origin.words else {}),
    }


def origin_of(spec: Mapping[str, Any]) -> Origin:
    """The inverse of `origin_spec`."""
    columns = tuple((name, width) for name, width in spec["columns"])
    units = None if spec["units"] is None else built(UNITS, spec["units"])
    condition = None if spec.get("condition") is None else condition_of(spec["condition"])
    known = tuple(spec.get("classes", ())), condition, tuple(spec.get("shape", ()))
    tokens = tuple(spec.get("vocabulary", ())), tuple(map(tuple, spec.get("words", ())))
    return Origin(columns, units, spec["source"], spec["given"], spec["independent"], *known, *tokens)


def condition_spec(condition: Condition) -> dict[str, Any]:
    """The names and units of numbers that come with a row, in plain values."""
    units = described(name_of(UNITS, condition.units), condition.units)
    return {"names": list(condition.names), "units": units, **({"whole": True} if condition.whole else {})}


def condition_of(spec: Mapping[str, Any]) -> Condition:
    """The inverse of `condition_spec`."""
    return Condition(tuple(spec["names"]), built(UNITS, spec["units"]), spec.get("whole", False))
