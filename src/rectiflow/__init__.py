"""Flows from a source to a target: paths, couplings, networks, models, objectives, samplers, metrics.

Time runs from t = 0 (source, `x0`) to t = 1 (target, `x1`). Samples are rows, `(batch, dim)`; time is `()` or `(batch,)`; a
velocity is called `v(t, x)`. Where many seeds are handled at once a seed axis leads: `(seeds, batch, dim)`.

`rectiflow.fit` trains on rows, `rectiflow.load` reads what was trained; both give a `rectiflow.Trained`.
"""


def __getattr__(name: str) -> object:
    """What users reach for, imported on first use: modules of the library wait for none of it."""
    from importlib import import_module

    places = {"fit": "rectiflow.fitting", "load": "rectiflow.saved", "Trained": "rectiflow.trained"}
    if name not in places:
        raise AttributeError(f"module 'rectiflow' has no attribute {name!r}")
    return getattr(import_module(places[name]), name)
