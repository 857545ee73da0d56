"""What made the numbers, as far as it follows from the inputs: parameters, digests of data, weights and code, versions."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from stages.report.graph import graph, svg
from stages.report.html import note, part, table
from stages.report.results import Key
from stages.shared import places
from stages.shared.params import GRID, merged, parse_file, read

CODE, DIGITS = places.DATA / "code", 16
PIPELINE = Path("dvc.yaml")  # which DVC takes for no dependency


def provenance(content: Mapping[str, Any], names: Mapping[Key, str]) -> list[str]:
    """Tables of the models, the data and the code. The same inputs make the same tables: revision, time and host are not in
    them.
    """
    stamps = {path.name: path.read_text() for path in sorted(CODE.iterdir())}
    datasets = dict.fromkeys(key[0] for key in names)
    files = [path for name in datasets for path in sorted(places.generated(name).iterdir())]
    lines = [line.split(maxsplit=1) for text in stamps.values() for line in text.splitlines()]
    pins = sorted({words[1] for words in lines if words[0] == "PIN"}, key=str.lower)
    said = (
        f"Digests are the first {DIGITS} digits of SHA-256, those of weights and data of their files. A stamp, a file of "
        "<code>data/code</code>, lists the modules that a stage or an entry of a table imports, each with a digest."
    )
    stages = svg(graph(parse_file(PIPELINE), {**content, **read(GRID)}))
    return [
        part("Stages", stages, unfolded=True),
        note(said),
        part("Models", table(["model", "weights", "parameters"], [flow(content, name) for name in names.values()])),
        part("Data", table(["file", "digest"], [[escape(path.as_posix()), digest(path.read_bytes())] for path in files])),
        part("Code", table(["stamp", "digest", "modules"], [stamp(name, text) for name, text in stamps.items()])),
        part("Pinned versions", table(["distribution", "version"], [list(map(escape, pin.split("=="))) for pin in pins])),
    ]


def digest(content: bytes) -> str:
    return f"<code>{sha256(content).hexdigest()[:DIGITS]}</code>"


def flow(content: Mapping[str, Any], name: str) -> list[str]:
    """A model, its weights, and everything it was trained with."""
    row = read(GRID)["flows"][name]
    method, override = content["methods"][row["method"]], row["override"]
    sections = {key: merged(content[key], method.get(key, {}), override.get(key, {})) for key in ("network", "training")}
    origin = {key: row[key] for key in ("data", "teacher") if key in row}
    text = json.dumps({**origin, **method, **sections})
    return [
        escape(name),
        digest(places.model(places.trained(name)).read_bytes()),
        f'<code class="long">{escape(text)}</code>',
    ]


def stamp(name: str, text: str) -> Sequence[str]:
    modules = sum(line.count("  ") == 1 and not line.startswith("PIN") for line in text.splitlines())
    return [escape(name), digest(text.encode()), str(modules)]
