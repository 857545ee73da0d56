"""Every measurement: the rows that the numbers of the page were made of, in a table that is built when it is asked for."""

import json
from collections.abc import Mapping
from html import escape
from urllib.parse import quote

import numpy as np
import pandas as pd

from stages.report.html import Section, note, section, wide
from stages.report.results import COLUMNS, Key
from stages.shared.measures import measure

NAME = "measurements"
KEYS = [column for column in COLUMNS if column not in ("seed", "value")]
TITLES = {"dataset": "data set"}
FIELD = """<p><label>rows with <input type="search" placeholder="words, or metric=w2 for a column"></label>
<output aria-live="polite"></output> <button type="button">earlier rows</button>
<button type="button">further rows</button></p>"""


def link(key: Key, name: str) -> str:
    """Where the rows of a model's measure are."""
    of, (dataset, method, k) = measure(name), key
    wanted = {"dataset": dataset, "method": method, "round": k, "metric": of.metric, "role": of.role}
    return f"#{NAME}?" + "&".join(quote(f"{column}={value}", safe="=") for column, value in wanted.items())


def measurements(results: pd.DataFrame) -> Section:
    """The section; a row has the values of all seeds that agree in all else."""
    said = (
        "All rows of <code>reports/results.csv</code>, those that differ by the seed alone in one, with seven digits. Every "
        "word must be in a row; <code>metric=w2</code> wants exactly that in the column of that name. The columns are "
        f"{', '.join(f'<code>{name}</code>' for name in KEYS)}; the last ones are the mean and the value of every seed."
    )
    content = compact(results)
    head = [*(TITLES.get(name, name) for name in KEYS), "mean", *(f"seed {seed}" for seed in content["seeds"])]
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    table = wide(f'<table class="all"><thead><tr>{cells}</tr></thead><tbody></tbody></table>', "all measurements")
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    script = f'<script type="application/json">{data}</script>'
    return section(NAME, "All measurements", note(said), f'<div class="{NAME}">{FIELD}{table}{script}</div>')


def compact(results: pd.DataFrame) -> Mapping[str, list]:
    """Columns as places in lists of words, then a value for each seed, None for what a seed has not."""
    seeds = sorted(results.seed.unique().tolist())
    texts = results[KEYS].assign(nfe=[f"{nfe:.10g}" for nfe in results.nfe]).astype(str)
    # What a seed has twice, as draws of two solvers under one name, stands in two rows.
    place = results.groupby([*KEYS, "seed"], sort=False).cumcount()
    codes, words = zip(*(pd.factorize(texts[name]) for name in KEYS), strict=True)
    found: dict[tuple[int, ...], list[float | None]] = {}
    for *key, seed, value in zip(*codes, place, results.seed, results.value, strict=True):
        row = found.setdefault(tuple(map(int, key)), [None] * len(seeds))
        row[seeds.index(seed)] = float(f"{value:.7g}") if np.isfinite(value) else None
    rows = [[*key[:-1], *values] for key, values in found.items()]
    return {"columns": KEYS, "seeds": seeds, "words": [list(of) for of in words], "rows": rows}
