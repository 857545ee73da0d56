"""Gather everything into `reports/`: metrics.json, results.csv, plots/*.csv and the page index.html."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from rectiflow.files import write_bytes
from stages.grid import studies
from stages.report import sources
from stages.report.evidence import Evidence
from stages.report.figures import Drawn, overview
from stages.report.gradient_flows import picture
from stages.report.page import page, study_sections
from stages.report.provenance import provenance
from stages.report.results import Key, agreements, headlines, per_round
from stages.report.token_figures import board
from stages.shared.files import rounded, write_json, write_text
from stages.shared.params import PARAMS, read
from stages.shared.progress import progress
from stages.shared.start import run

REPORTS = Path("reports")


def csv(frame: pd.DataFrame) -> str:
    """Comma-separated values with ten significant digits."""
    return frame.map(lambda value: rounded(value) if isinstance(value, float) else value).to_csv(index=False)


def in_one(evidence: Evidence, models: Sequence[Key], shown: Mapping[Key, Drawn]) -> bytes:
    """One picture of the result, for the README: of flows, or else of the first tokens."""
    if not evidence.nfe.empty:
        return overview(evidence.nfe, evidence.floors, shown)
    return board(next(album for key in models if (album := evidence.tokens(key[0]))))


def main(_: list[str]) -> None:
    """`python -m stages.report`"""
    content, say = read(), progress("report", 3, 3)
    trained = sources.models()
    ended = sources.ended(trained | sources.decoded())
    trained = {key: name for key, name in trained.items() if key not in ended}
    names = trained | {key: name for key, name in sources.decoded().items() if key not in ended}
    results, losses = sources.results(names), sources.losses(trained)
    say(1, f"{len(results)} measurements of {len(names)} models")
    tables = {
        "relations": partial(sources.relations, content),
        "choices": partial(sources.choices, content),
        "ends": partial(sources.ends, trained),
        "spent": partial(sources.spent, names),
        "couplings": partial(sources.couplings, content, names),
        "tracks": partial(sources.tracks, names),
        "bands": partial(sources.bands, names),
    }
    evidence = Evidence(results, tables, partial(sources.album, names), partial(sources.token_album, names))
    shown = {key: drawn for key, name in names.items() if (drawn := sources.drawn(name, key[0])) is not None}
    sections = study_sections(studies(content), evidence)
    descents = sources.followed(content)
    made = provenance(content, trained)
    reasons = list(dict.fromkeys(ended.values()))
    maps = sources.maps(trained)
    html = page(evidence, losses, shown, PARAMS.read_text(), sections, reasons, maps, descents, made)
    say(2, "page drawn")
    write_text(REPORTS / "results.csv", csv(results))
    rounds = per_round(results, ["straightness", "chord_deviation", "w2", "w2_1step"])
    for name, frame in {"w2_nfe": evidence.nfe, "straightness": rounds, "training": losses}.items():
        write_text(REPORTS / "plots" / f"{name}.csv", csv(frame))
    write_json(REPORTS / "metrics.json", headlines(results) | agreements(evidence.table("relations")))
    write_bytes(REPORTS / "result.png", picture(descents) or in_one(evidence, list(names), shown))
    write_text(REPORTS / "index.html", html)
    say(3, str(REPORTS / "index.html"))


if __name__ == "__main__":
    run(main)
