"""The times of the last runs beside the report: `reports/times.json`, and a page with a timeline of each.

Neither is tracked by git or DVC: they tell of a machine and a day, and no result depends on them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from logging import getLogger
from pathlib import Path
from typing import Any

from flows.running.times import NOTED, Times, covered, joined, lanes, record
from stages.report.html import Section, document, note, part, section, table, wide
from stages.shared.files import write_json, write_text

JSON, PAGE = Path("reports/times.json"), Path("reports/times.html")
FORMAT, RUNS = 1, 10  # the last runs are kept
WIDTH, LANE, LEFT, TOP = 1040, 20, 60, 22  # of a timeline
FILLS = ["#9dbce3", "#f0b896", "#a3d4b2", "#cdb3e0", "#e6cf8a", "#a6d8db"]

STYLE = """
.times text { font-size: 11px; fill: #1d2430; } .times .axis { stroke: #dde1e7; }
"""
SAID = {
    "start": "imports, Prefect, the graph", "stages": "at least one stage's command runs",
    "DVC": "none runs, and DVC compares, hashes or records", "between": "none of these", "end": "after the last stage",
}  # fmt: skip

WHOLE = (
    "The whole of a stage is what it takes from DVC's first look at it, waiting for a place included. Peak memory is the "
    "most that was resident at once; libraries that stages share are counted in each of them."
)


@contextmanager
def timed(root: Path, began: float) -> Iterator[Times]:
    """Times of a run that began then; they are written when it ends, however it does, if it had a stage."""
    times = Times(began)
    mark = NOTED.set(times)
    try:
        yield times
    finally:
        NOTED.reset(mark)
        try:
            if times.stages:
                keep(root, record(times, root))
        except Exception as error:  # noqa: BLE001  the results are there
            getLogger(__name__).warning("the times of this run are not written: %s", error)


def keep(root: Path, run: Mapping[str, Any]) -> None:
    """Write a run in front of those before it."""
    runs = [run, *earlier(root / JSON)][:RUNS]
    write_json(root / JSON, {"format": FORMAT, "runs": runs})
    write_text(root / PAGE, page(runs))


def earlier(path: Path) -> list[Mapping[str, Any]]:
    """The runs of a file; none where there is none that can be read, or one of another format."""
    try:
        content = json.loads(path.read_text())
        return list(content["runs"]) if content["format"] == FORMAT else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """All runs, the last one first."""
    lead = (
        "<p>What <code>python -m flows.repro</code> and <code>make repro</code> did here, the last run first. No result "
        'depends on it. <a href="index.html">The report</a> of these runs.</p>\n'
    )
    sections = [of_run(k, run) for k, run in enumerate(runs)]
    return document("rectiflow times", "Times of the last runs", sections, lead, style=STYLE)


def of_run(k: int, run: Mapping[str, Any]) -> Section:
    """A run: where it was, what its time went to, a timeline, its lanes and its stages."""
    stages, wall, dirty = run["stages"], run["wall"], run["dirty"]
    said = f"{run['began']}: {sum(bool(of['command']) for of in stages)} of {len(stages)} stages ran, {wall:.1f} s"
    where = f"Host {escape(run['host'])}; revision <code>{escape(run['revision'] or 'none')}</code>."
    differ = [part(f"{len(dirty)} files that differ from it", f"<pre>{escape(chr(10).join(dirty))}</pre>")] if dirty else []
    return section(
        f"run{k}", said, note(where), *differ, shares(run), *timeline(run),
        table(["stage", "outcome", "begins, s", "command, s", "whole, s", "user, s", "system, s", "peak memory, MiB"],
              [row(of) for of in stages]),
        note(WHOLE),
    )  # fmt: skip


def shares(run: Mapping[str, Any]) -> str:
    """What the time of a run went to."""
    rows = [[name, seconds(value), f"{value / run['wall']:.1%}", SAID[name]] for name, value in run["parts"].items()]
    whole = ["the whole run", seconds(run["wall"]), "100.0%", "from the begin of the process until this was written"]
    return table(["time went to", "seconds", "share", "what it is"], [*rows, whole])


def row(of: Mapping[str, Any]) -> list[str]:
    """A stage in the table."""
    (begin, end), command, used = of["whole"], of["command"], of["used"]
    ran = seconds(command[1] - command[0]) if command else ""
    spent = [seconds(used["user"]), seconds(used["system"]), f"{used['peak'] / 2**20:.0f}"] if used else [""] * 3
    return [escape(of["name"]), escape(of["how"]), seconds(begin), ran, seconds(end - begin), *spent]


def seconds(value: float) -> str:
    return f"{value:.2f}"


def timeline(run: Mapping[str, Any]) -> list[str]:
    """Commands in as many lanes as ran at once, DVC's work in one more, and how long each lane was busy."""
    wall, ran = run["wall"], [of for of in run["stages"] if of["command"]]
    lane_of = lanes([of["command"] for of in ran])
    dvc = joined([tuple(span) for of in run["stages"] for span in of["dvc"]])
    last = max(lane_of, default=-1) + 1
    scale, height = (WIDTH - LEFT) / wall, TOP + LANE * (last + 1) + 4
    kinds = list(dict.fromkeys(kind(of) for of in ran))
    drawn = [
        *axis(wall, scale, height),
        *(
            labelled(of, lane, scale, FILLS[kinds.index(kind(of)) % len(FILLS)])
            for of, lane in zip(ran, lane_of, strict=True)
        ),
        *(bar(span, last, scale, "#8a93a0") for span in dvc),
        *(f'<text x="0" y="{TOP + LANE * k + 13}">{name}</text>' for k, name in enumerate([*range(1, last + 1), "DVC"])),
    ]
    said = f"timeline of {len(ran)} stages in {wall:.1f} s; the table below has all numbers"
    svg = (
        f'<svg class="times" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{said}">{"".join(drawn)}</svg>'
    )
    busy = [covered([of["command"] for of, lane in zip(ran, lane_of, strict=True) if lane == k]) for k in range(last)]
    names = [*map(str, range(1, last + 1)), "DVC"]
    rows = [[name, *map(seconds, (b, wall - b, wall))] for name, b in zip(names, [*busy, covered(dvc)], strict=True)]
    return [wide(svg, "timeline"), table(["lane", "busy, s", "idle, s", "sum, s"], rows)]


def kind(of: Mapping[str, Any]) -> str:
    return str(of["name"].split("@")[0])


def axis(wall: float, scale: float, height: int) -> Iterator[str]:
    """Lines at round numbers of seconds."""
    step = tick(wall)
    for k in range(int(wall / step) + 1):
        x = LEFT + k * step * scale
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height}"/>'
        yield f'<text x="{x + 2:.1f}" y="{TOP - 8}">{k * step:g} s</text>'


def labelled(of: Mapping[str, Any], lane: int, scale: float, fill: str) -> str:
    """A stage's bar, with as much of its name as there is room for."""
    begin, end = of["command"]
    room = int((end - begin) * scale / 6.5)
    label = next((name for name in (of["name"], kind(of)) if len(name) <= room), "")
    told = f"<title>{escape(of['name'])}: {end - begin:.2f} s, {escape(of['how'])}</title>"
    text = f'<text x="{LEFT + begin * scale + 3:.1f}" y="{TOP + LANE * lane + 13}">{escape(label)}</text>'
    return f"<g>{told}{bar((begin, end), lane, scale, fill)}{text if label else ''}</g>"


def bar(span: Sequence[float], lane: int, scale: float, fill: str) -> str:
    begin, width = LEFT + span[0] * scale, max(0.5, (span[1] - span[0]) * scale - 0.5)
    return f'<rect fill="{fill}" x="{begin:.1f}" y="{TOP + LANE * lane}" width="{width:.1f}" height="{LANE - 3}"/>'


def tick(wall: float) -> float:
    """A round number of seconds, of which there are at most ten in a run."""
    return next(step for k in range(7) for m in (1, 2, 5) if wall / (step := m * 10.0**k) <= 10)
