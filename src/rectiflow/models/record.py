"""A trained model as named arrays and a description of plain values, from which it is built again."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from rectiflow.models import MODELS
from rectiflow.models.frame import Frame
from rectiflow.models.model import Model, Weights
from rectiflow.networks import NETWORKS
from rectiflow.registry import built, described, name_of

FRAME = ("shift", "scale", "speed")
OWN = ("network", "weights", "frame")  # of a model's fields, those that are no options


def taken_apart(model: Model) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of every player and the frame, by name; and what is needed to build model and network again."""
    tensors = {name: getattr(model.frame, name) for name in FRAME} | dict(model.weights)
    options = {field.name: getattr(model, field.name) for field in fields(model) if field.name not in OWN}
    options |= {name: described(name_of(table, options[name]), options[name]) for name, table in model.parts.items()}
    spec = {
        "model": {"name": MODELS.name(type(model)), **options},
        "network": described(NETWORKS.name(type(model.network)), model.network),
        "players": list(model.weights),
    }
    return tensors, spec


def put_together(tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Any:
    """The model that `taken_apart` took apart. Raises ValueError where it is one of another version."""
    frame = Frame(*(tensors[name] for name in FRAME))
    weights: Weights = {name: tensors[name] for name in spec["players"]}
    given = {"network": built(NETWORKS, spec["network"]), "weights": weights, "frame": frame}
    options = dict(spec["model"])
    if options["name"] in MODELS:
        parts = MODELS[options["name"]].parts
        options |= {name: built(table, options[name]) for name, table in parts.items() if name in options}
    return built(MODELS, options | given)
