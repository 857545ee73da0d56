"""Draw from an exported model by numpy and ONNX Runtime alone: python load_onnx.py FOLDER [ROWS]

Prints the model's description to the error stream, and draws as rows of CSV.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

folder, rows = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000

sampler = ort.InferenceSession(folder / "sampler.onnx", providers=["CPUExecutionProvider"])
about = sampler.get_modelmeta().custom_metadata_map
for key, value in sorted(about.items()):
    print(f"{key}: {value}", file=sys.stderr)

dim = sampler.get_inputs()[0].shape[1]
if about.get("source", "N(0, I)") != "N(0, I)":
    sys.exit(f"x0 comes from {about['source']}: bring such rows in its place, in the model's coordinates")
x0 = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
given = {part.name: np.eye(part.shape[1], dtype="f")[[-1] * rows] for part in sampler.get_inputs()[1:]}  # c: the last class
(x1,) = sampler.run(["x1"], {"x0": x0, **given})
np.savetxt(sys.stdout, x1, fmt="%.9g", delimiter=",")

if (folder / "field.onnx").exists():  # the velocity at any time, at the points that were drawn
    field = ort.InferenceSession(folder / "field.onnx", providers=["CPUExecutionProvider"])
    (v,) = field.run(["v"], {"t": np.full(rows, 0.5, np.float32), "x": x1, **given})
    print(f"|v| at t = 0.5: {np.linalg.norm(v, axis=1).mean():.4g} on average", file=sys.stderr)
