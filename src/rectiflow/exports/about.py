"""What an exported model is, in words and plain values: for the metadata of its files and for its card."""

import json
from collections.abc import Mapping
from typing import Any

from rectiflow.models.model import Field, Model
from rectiflow.models.record import taken_apart
from rectiflow.registry import described, name_of
from rectiflow.samplers import Sampler
from rectiflow.units import UNITS, Units


def about(model: Model, sampler: Sampler, units: Units | None, evaluations: int) -> dict[str, str]:
    """Model, network, sampler, evaluations and weights by name; what goes into the graphs and comes out, and the units."""
    tensors, spec = taken_apart(model)
    dim, where = model.frame.shift.shape[-1], "own units" if units is not None else "the model's coordinates"
    if units is not None and units.levels:
        where += " with the noise that fills levels: the whole part is the level"
    found = {
        "model": said(spec["model"]),
        "network": said(spec["network"]),
        "sampler": f"{sampler.label}, {sampler.steps} step{'s' * (sampler.steps > 1)}",
        "evaluations": str(evaluations),
        "weights": str(sum(tensors[player].numel() for player in spec["players"])),
        "dim": str(dim),
        "x0": f"(batch, {dim}), float32: draws of the source, in the model's coordinates",
        "x1": f"(batch, {dim}), float32: draws of the model, in {where}",
    }
    if isinstance(model, Field):
        low, high = model.path.span
        found |= {
            "t": f"(batch,), float32: times from {low:g} (source) to {high:g} (target)",
            "x": f"(batch, {dim}), float32: points, in {where}",
            "v": f"(batch, {dim}), float32: their velocity, in {where} over time",
        }
    if width := getattr(model, "conditions", 0):
        found["conditions"] = str(width)
        found["c"] = (
            f"(batch, {width}), float32: a one for the class among zeros, in the order of classes; the numbers "
            f"of a condition, (own - shift) / scale, then a one; zeros alone where nothing is given"
        )
    if units is not None:
        found["units"] = json.dumps(described(name_of(UNITS, units), units), default=list)
    return found


def said(part: Mapping[str, Any]) -> str:
    """A description as text: `velocity(path=linear(sigma=0.0), prediction=velocity)`."""
    options = ", ".join(f"{key}={_value(value)}" for key, value in part.items() if key not in ("name", "fused"))
    return f"{part['name']}({options})" if options else str(part["name"])


def _value(value: Any) -> str:
    return said(value) if isinstance(value, Mapping) else str(value)
