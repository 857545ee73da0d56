"""Draw from an exported model by torch alone: python load_torch.py FOLDER [ROWS]

Prints the model's description to the error stream, and draws as rows of CSV.
"""

import sys
from pathlib import Path

import torch

folder, rows = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000

about = {"dim": ""}  # loading fills it with all that is known
sampler = torch.export.load(folder / "sampler.pt2", extra_files=about).module()
for key, value in sorted(about.items()):
    print(f"{key}: {value}", file=sys.stderr)

if about.get("source", "N(0, I)") != "N(0, I)":
    sys.exit(f"x0 comes from {about['source']}: bring such rows in its place, in the model's coordinates")
generator = torch.Generator().manual_seed(0)
x0 = torch.randn(rows, int(about["dim"]), generator=generator)
given = [torch.eye(int(width))[[-1] * rows] for name, width in about.items() if name == "conditions"]  # the last class
x1 = sampler(x0, *given)
print("\n".join(",".join(f"{number:.9g}" for number in row) for row in x1.tolist()))

if (folder / "field.pt2").exists():  # the velocity at any time, at the points that were drawn
    field = torch.export.load(folder / "field.pt2").module()
    v = field(torch.full((rows,), 0.5), x1, *given)
    print(f"|v| at t = 0.5: {v.norm(dim=1).mean():.4g} on average", file=sys.stderr)
