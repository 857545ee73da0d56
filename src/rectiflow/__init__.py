"""Flows from a source to a target: paths, couplings, networks, models, objectives, samplers, metrics.

Time runs from t = 0 (source, `x0`) to t = 1 (target, `x1`). Samples are rows, `(batch, dim)`; time is `()` or `(batch,)`; a
velocity is called `v(t, x)`. Where many seeds are handled at once a seed axis leads: `(seeds, batch, dim)`.
"""
