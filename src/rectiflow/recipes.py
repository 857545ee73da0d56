"""What a row of methods asks for, as the library's objects: `fit` takes one, or the name of one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

from rectiflow.models import MODELS
from rectiflow.models.model import Model
from rectiflow.networks import NETWORKS
from rectiflow.networks.network import Build
from rectiflow.objectives import OBJECTIVES
from rectiflow.objectives.objective import Objective
from rectiflow.pairs import Points
from rectiflow.ranges import among
from rectiflow.registry import built
from rectiflow.sections import sectioned
from rectiflow.training import Training
from rectiflow.transport.couplings import COUPLINGS

Row = Mapping[str, Any]

METHODS: dict[str, Row] = {
    "icfm": {"coupling": {"name": "independent"}},
    "otcfm": {"coupling": {"name": "exact"}},
    "sbcfm": {"coupling": {"name": "sinkhorn", "reg": 2.0}, "interpolant": {"name": "bridge", "sigma": 1.0}},
    "vp": {"coupling": {"name": "independent"}, "interpolant": {"name": "vp"}},
    "meanflow": {"coupling": {"name": "independent"}, "objective": "meanflow", "model": {"name": "flow_map"}},
    "nsf": {
        "objective": "likelihood",
        "model": {"name": "coupling_layers", "layers": 4, "transform": {"name": "spline"}},
        "network": {"depth": 2},
        "training": {"steps": 2000, "batch": 256, "lr": 0.004, "clip": 5.0},
    },
    "tokens": {
        "objective": "tokens",
        "loss": "bound",
        "model": {"name": "tokens"},
        "network": {"width": 128, "depth": 3},
        "training": {"steps": 1500, "batch": 256, "lr": 0.003},
    },
    "autoregressive": {
        "objective": "autoregressive",
        "model": {"name": "autoregressive"},
        "network": {"name": "transformer"},
        "training": {"steps": 1500, "batch": 128, "lr": 0.003},
    },
}
# What becomes of a model where rows come with a label or a condition.
CONDITIONAL = {  # what a model becomes where rows have conditions
    "velocity": "conditional",
    "flow_map": "conditional_map",
    "tokens": "conditional_tokens",
    "autoregressive": "conditional_autoregressive",
}
NETWORK: Row = {"name": "mlp", "width": 64, "depth": 4}
TRAINING: Row = {"steps": 1500, "batch": 128, "lr": 0.012}
GIVEN = ("coupling", "objective", "model", "network", "training")  # keys of a row; its others are the objective's options


class Recipe(NamedTuple):
    """A row as the library's objects; without a coupling the objective trains on the points themselves."""

    coupling: Row | None
    objective: Objective
    network: Build
    training: Training


def recipe_of(method: str | Row, network: Row | None, training: Row | None, given: Sequence[str] = ()) -> Recipe:
    """A method's objects. Where rows come with what is `given`, a label or a condition, a velocity becomes conditional.
    Raises ValueError for what is not known, with the choices, and for a method that knows no conditions.
    """
    if isinstance(method, str):
        among(METHODS, method=method)
        method = METHODS[method]
    if not isinstance(method, Mapping):
        raise ValueError(f"method: a {type(method).__name__} should be a name among {', '.join(METHODS)}, or a row")
    build = network_of(over(over(NETWORK, method.get("network", {})), network or {}))
    options = {**TRAINING, **method.get("training", {}), **(training or {})}
    try:
        how = Training(**options)
    except TypeError as error:
        known = signature(Training).parameters
        raise ValueError(f"training: {first_not(options, known)!r} is not one of {', '.join(known)}") from error
    if given:
        method = conditional(method, given[0])
    objective = objective_of(method, build)
    coupling = coupling_of(method.get("coupling"), objective)
    if "condition" in given and coupling is not None and coupling["name"] != "independent":
        name = coupling["name"]
        raise ValueError(f"coupling: {name!r} would make x0 depend on the condition; it should be independent, as in icfm")
    return Recipe(coupling, objective, build, how)


def over(row: Row, change: Row) -> Row:
    """A row with keys of another in place of its own; one of another name has nothing of it."""
    return change if change.get("name", row["name"]) != row["name"] else {**row, **change}


def conditional(method: Row, given: str) -> Row:
    """The method with a conditional model in place of its own. Raises ValueError for a model that knows no conditions."""
    model = sectioned("model", method.get("model", "velocity"))
    name = CONDITIONAL.get(model["name"], model["name"])
    if name not in MODELS or not MODELS[name].conditional:
        objective, known = method.get("objective", "matching"), ", ".join(CONDITIONAL)
        raise ValueError(f"{given}: {objective!r} of {name!r} knows no conditions; those of {known} do")
    return {**method, "model": {**model, "name": name}}


def coupling_of(row: Any, objective: Objective) -> Row | None:
    """A coupling with its options; `{"name": NAME}` or the name alone. An objective on pairs needs one, another has none."""
    if objective.data is Points:
        if row is not None:
            raise ValueError(f"coupling: {row!r}: this objective trains on the points themselves, without pairs")
        return None
    if row is None:
        raise ValueError(f"coupling: None: this objective trains on pairs; the choices are {', '.join(COUPLINGS)}")
    section = sectioned("coupling", row)
    among(COUPLINGS, coupling=section["name"])
    known = {**signature(COUPLINGS[section["name"]]).parameters, "name": None, "batch": None, "pairs": None}
    if not section.keys() <= known.keys():
        raise ValueError(f"coupling: {first_not(section, known)!r} is no option of {section['name']!r}")
    return section


def network_of(row: Row) -> Build:
    """A network of which all is known but how many numbers go in and come out."""
    among(NETWORKS, network=row["name"])
    options = {key: value for key, value in row.items() if key != "name"}
    build: Build = partial(NETWORKS[row["name"]], **options)
    try:
        build(inputs=1, outputs=1)
    except TypeError as error:
        raise ValueError(f"network: {row['name']!r} has not the options {', '.join(options)}") from error
    return build


def objective_of(row: Row, network: Build) -> Objective:
    """The objective of a row, with its network and how its model begins."""
    name = row.get("objective", "matching")
    if not isinstance(name, str):
        raise ValueError(f"objective: {name!r} should be one of {', '.join(OBJECTIVES)}")
    among(OBJECTIVES, objective=name)
    call, given = OBJECTIVES[name], {key: value for key, value in row.items() if key not in GIVEN}
    wanted, parts = signature(call).parameters, getattr(call, "parts", {})
    if "reflow" in row or "teacher" in row:
        raise ValueError(f"objective: {name!r} learns from another flow, which the pipeline alone trains first")
    known = {key: part for key, part in wanted.items() if key not in ("network", "model", "teacher")}
    if not given.keys() <= known.keys():
        raise ValueError(f"method: {first_not(given, known)!r} is no option of {name!r}; {', '.join(known)} are")
    given |= {key: built(parts[key], sectioned(key, given[key])) for key in given if key in parts}
    kind = model_of(sectioned("model", row.get("model", "velocity")), call)
    objective: Objective = call(network, **given, **({"model": kind} if "model" in wanted else {}))
    return objective


def model_of(row: Row, objective: Any) -> Callable[..., Model]:
    """How a row's model begins."""
    among(MODELS, model=row["name"])
    kind = MODELS[row["name"]]
    if not issubclass(kind, objective.trains):
        fitting = ", ".join(name for name in MODELS if issubclass(MODELS[name], objective.trains))
        raise ValueError(f"model: {row['name']!r} is not trained by this objective, which trains {fitting}")
    options = {key: value for key, value in row.items() if key != "name"}
    options |= {key: built(kind.parts[key], sectioned(key, options[key])) for key in kind.parts if key in options}
    return partial(getattr(kind, "begin", kind), **options)


def first_not(given: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """The first of the keys that is not known."""
    return next(key for key in given if key not in known)
