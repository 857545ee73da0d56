"""Remove what rows that are gone have left behind."""

import shutil
from collections.abc import Mapping
from typing import Any

from stages.grid import Rows
from stages.shared.places import DATA


def prune(content: Mapping[str, Any], rows: Rows) -> None:
    """Remove what rows left behind that are gone: the report depends on whole folders, and not on what was there once.

    Nothing is lost: DVC's cache has it, and brings it back with the row.
    """
    problems, flows = {**content["datasets"], **content["tables"], **rows["encoded"]}, rows["flows"]
    drawn = {**flows, **rows["decoded"]}
    below = {
        "density": rows["densities"], "modes": rows["modes"], "bound": rows["bounds"], "baseline": rows["baselined"],
        "jko": rows["movements"], "judge": rows["judging"], "features": rows["features"], "tokens": rows["tokens"],
        "given": rows["given"], "rollout": rows["rollouts"], "collapse": rows["collapses"],
    }  # fmt: skip
    kept = {
        "generate": problems,
        "floor": problems,
        "couple": rows["couples"],
        "reflow": {**rows["reflows"], **rows["until"]},
        "train": {**flows, **content["choices"]},
        "sample": drawn,
        "judge": rows["judging"],
        "features": rows["features"],
        "evaluate": {**drawn, **content["relations"], **below},
        **{f"evaluate/{folder}": of for folder, of in below.items()},
    }
    for stage, names in kept.items():
        for path in (DATA / stage).glob("[!.]*"):
            if path.name.removesuffix(".parquet") not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
