"""Compare git revisions and DVC experiments: differences paired by seed, and the trend over commits.

    python -m flows.compare main my-run --metrics w2,straightness --trend 10

The first revision is the baseline of all others. Which way a measure is better says the table of measures.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed, State

from flows.revisions.commits import WORKSPACE, Commit, Revision, changes, history, measured, read, revision
from flows.revisions.coordinates import coordinates
from flows.revisions.differences import SEPARATED, Difference, differences, summary
from rectiflow.statistics import Estimate, estimate
from stages.report.browser.lines import SCRIPT as LINES
from stages.report.figures import COLOURS, plt, uri
from stages.report.html import document, figure, note, section, table
from stages.report.printing import html, plain
from stages.report.results import FLOW, select
from stages.shared.files import write_text
from stages.shared.measures import MEASURES, measure, shown_in
from stages.shared.params import Refused
from stages.shared.start import run

OUT = Path("reports/compare.html")

STYLE = """
th:nth-child(2), td:nth-child(2), th:last-child, td:last-child { text-align: left; }
td:last-child { white-space: normal; }
.better, .lower { color: #2b7a46; font-weight: 600; } .worse, .higher { color: #b23c17; font-weight: 600; }
"""


def trend(commits: Sequence[Commit], metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and half interval of every model and metric at each commit; commits whose results cannot be read are left out."""
    rows = []
    for commit in commits:
        try:
            then = read(commit.short, commit)
            values = measured(then.results, metrics)
        except Refused:
            continue
        for key, group in values.groupby([*FLOW, "metric"], sort=False):
            rows.append([commit.short, *key, *estimate(group.value.tolist())])
    return pd.DataFrame(rows, columns=["commit", *FLOW, "metric", "mean", "half", "n"])


# ---- Tables and page


def by_dataset(rows: Sequence[Difference]) -> dict[str, list[Difference]]:
    return {name: [row for row in rows if row.dataset == name] for name in dict.fromkeys(row.dataset for row in rows)}


def header(names: Sequence[str]) -> list[str]:
    return ["flow", "metric", *names, "difference", "seeds", "at 95 %"]


def cells(
    row: Difference, names: Sequence[str], number: Callable[[Estimate | None], str], quoted: Callable[[str], str], mark: str
) -> list[str]:
    """A row of a table; `mark` goes around a verdict that separates the sides."""
    numbers = [number(value) for value in (row.baseline, row.run, row.gap)]
    side = {"only in baseline": f"only in {names[0]}", "only in run": f"only in {names[1]}"}
    said = mark.format(row.verdict) if row.verdict in SEPARATED else quoted(side.get(row.verdict, row.verdict))
    seeds = str(row.gap.n if row.gap else 0)
    return [quoted(f"{row.method}, round {row.round}"), quoted(row.metric), *numbers, seeds, said + " †" * row.holm]


def literal(text: str) -> str:
    """Text as it is in a cell of a Markdown table."""
    return " ".join(escape(text, quote=False).replace("|", "\\|").split())


def markdown(rows: Sequence[Difference], names: Sequence[str]) -> str:
    """The differences as Markdown, in columns that a terminal shows too."""
    parts = [summary(rows)]
    for dataset, part in by_dataset(rows).items():
        grid = [[literal(cell) for cell in header(names)], *(cells(row, names, plain, literal, "**{}**") for row in part)]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in grid]
        lines.insert(1, "-|-".join("-" * width for width in widths))
        parts += [f"### {literal(dataset)}", "\n".join(f"| {line} |" for line in lines)]
    return "\n\n".join(parts)


def difference_markdown(
    baseline: pd.DataFrame,
    run: pd.DataFrame,
    metrics: Sequence[str] = (),
    names: tuple[str, str] = ("baseline", "run"),
) -> str:
    """The differences of two `results.csv` frames as Markdown; without metrics those that are compared by default."""
    metrics = metrics or compared_here((baseline, run))
    return markdown(differences(*(measured(frame, metrics) for frame in (baseline, run))), names)


def compared_here(results: Sequence[pd.DataFrame]) -> list[str]:
    """The measures that a comparison looks at by default, of those that are there. Raises Refused for none."""
    usual = shown_in("compared")
    if found := [name for name in usual if any(len(select(frame, name)) for frame in results)]:
        return found
    raise Refused(f"none of {', '.join(usual)} is measured there; say which metrics to compare")


def trend_figure(points: pd.DataFrame, metrics: Sequence[str]) -> str:
    """A row of panels for each data set, a column for each metric, commits from left to right."""
    commits, datasets, methods = (list(points[column].unique()) for column in ("commit", "dataset", "method"))
    size = (max(2.6, 0.22 * len(commits)) * len(metrics) + 1.2, 2.1 * len(datasets) + 0.5)
    drawn, axes = plt.subplots(len(datasets), len(metrics), figsize=size, squeeze=False, sharex=True, layout="constrained")
    for (i, j), ax in np.ndenumerate(axes):
        rows = points[(points.dataset == datasets[i]) & (points.metric == metrics[j])]
        lines = rows.groupby(["method", "round"], sort=False)
        for n, ((method, k), line) in enumerate(lines):
            style = {"color": COLOURS[methods.index(method) % len(COLOURS)], "ls": ["-", "--", ":", "-."][k % 4]}
            # Side by side, so that intervals do not hide each other.
            places, label = line.commit.map(commits.index) + 0.3 * n / len(lines), f"{method} {k}".replace("$", r"\$")
            ax.errorbar(places, line["mean"], line.half, marker="o", ms=3, capsize=2, elinewidth=0.7, label=label, **style)
        ax.set(title=f"{datasets[i]}: {metrics[j]}".replace("$", r"\$"), xticks=range(len(commits)))
        ax.set_yscale("log" if 0 < 10 * rows["mean"].min() < rows["mean"].max() else "linear")
        ax.set_xticklabels(commits, rotation=90, family="monospace", fontsize=7)
    for row in axes:
        handles = max((ax.get_legend_handles_labels() for ax in row), key=lambda found: len(found[0]))
        row[-1].legend(*handles, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return uri(drawn, "svg")


def revisions_table(revisions: Sequence[Revision]) -> str:
    rows = []
    for then in revisions:
        said = then.commit or Commit("", "", "the working tree as it is")
        seeds = ", ".join(map(str, sorted(then.results.seed.unique())))
        taken = ", ".join(f"{n:g}" for n in then.evaluations)
        rows.append([escape(then.name), said.short, said.date, seeds, taken, escape(said.subject)])
    return table(["revision", "commit", "date", "seeds", "evaluations of w2", "subject"], rows)


def difference_parts(baseline: Revision, run: Revision, rows: Sequence[Difference]) -> list[str]:
    """What differs between two revisions: parameters, then measurements by data set."""
    changed = [[escape(cell) for cell in row] for row in changes(baseline.params, run.params)]
    names, mark = (baseline.name, run.name), '<span class="{0}">{0}</span>'
    parts = [note(escape(summary(rows)))]
    parts.append(table(["params.yaml", *names], changed) if changed else note("The parameters are the same."))
    for dataset, part in by_dataset(rows).items():
        parts += [f"<h3>{escape(dataset)}</h3>"]
        parts += [table(header(names), [cells(row, names, html, escape, mark) for row in part])]
    return parts


def trend_parts(commits: Sequence[Commit], metrics: Sequence[str]) -> list[str]:
    """The metrics along the history, and what the commits say."""
    points = trend(commits, metrics)
    rows = [[escape(c.short), c.date, escape(c.subject)] for c in commits if c.short in set(points.commit)]
    if not rows:
        return [note("No commit up to HEAD has these results.")]
    left = f" {len(commits) - len(rows)} more cannot be read." if len(rows) < len(commits) else ""
    caption = f"Means over seeds with 95 % intervals at the last commits that changed the results, up to HEAD.{left}"
    return [figure(trend_figure(points, metrics), caption), table(["commit", "date", "subject"], rows)]


NOTE = (
    "Means over the seeds of each side ± half of the 95 % interval (Student's t). The difference is the other revision "
    "minus the first, formed seed by seed over the seeds that both have; it is better or worse where its interval excludes "
    "zero, lower or higher for what is neither. {directions} A metric is as good as its test set: compare numbers of "
    "different test sets with care."
)


# ---- The comparison, as a command and as a flow


def compared(names: Sequence[str], metrics: Sequence[str], last: int) -> tuple[str, str]:
    """The page and the Markdown of a comparison, of what is compared by default where there are no `metrics`; one revision
    alone is compared with the workspace. Raises Refused.
    """
    names = names if len(names) > 1 else [*names, WORKSPACE]
    if len(names) < 2 or last < 0:
        raise Refused("compare needs a revision or more, and a trend of zero commits or more")
    revisions = [revision(name) for name in names]
    results = [each.results for each in revisions]
    metrics = list(dict.fromkeys(metrics)) or compared_here(results)
    check(metrics, results)
    sides = [measured(frame, metrics) for frame in results]
    said_of = note(escape(NOTE.format(directions=directions(metrics))))
    sections = [section("revisions", "Revisions", revisions_table(revisions), said_of)]
    said = []
    for k in range(1, len(names)):
        rows, title = differences(sides[0], sides[k]), f"{names[0]} → {names[k]}"
        sections.append(section(f"run{k}", title, *difference_parts(revisions[0], revisions[k], rows)))
        said.append(f"## {literal(title)}\n\n{markdown(rows, (names[0], names[k]))}")
    sections += coordinates(differing(revisions), {each.name: each.results for each in revisions}, metrics)
    if last:
        sections.append(section("trend", "Trend", *trend_parts(history(n=last), metrics)))
    heading = escape(f"{', '.join(names[1:])} against {names[0]}")
    return document("rectiflow comparison", heading, sections, style=STYLE, scripts=[LINES]), "\n\n".join(said) + "\n"


def differing(revisions: Sequence[Revision]) -> dict[str, dict[str, str]]:
    """The parameters in which any revision differs from the first, and what each says there."""
    first, *others = revisions
    found = {each.name: {key: (old, new) for key, old, new in changes(first.params, each.params)} for each in others}
    before = {key: old for of in found.values() for key, (old, _) in of.items()}
    said = {name: {key: of[key][1] if key in of else old for key, old in before.items()} for name, of in found.items()}
    return {name: {key: value.strip('"') for key, value in of.items()} for name, of in ({first.name: before} | said).items()}


def directions(metrics: Sequence[str]) -> str:
    """Which way the measures are better, in a sentence."""
    larger = [name for name in metrics if measure(name).better == "larger"]
    return f"Smaller is better, but larger for {', '.join(larger)}." if larger else "Smaller is better."


def check(metrics: Sequence[str], results: Sequence[pd.DataFrame]) -> None:
    """Every metric is measured somewhere. Raises Refused with those there are."""
    there = {metric for frame in results for metric in frame.metric.unique()}
    choices = [name for name in dict.fromkeys([*MEASURES, *sorted(there)]) if any(len(select(f, name)) for f in results)]
    for name in metrics:
        if name not in choices:
            raise Refused(f"metric {name!r} is not measured there; the choices are {', '.join(choices) or 'none'}")


@flow(name="compare", persist_result=False)
def compare(
    revisions: list[str],
    metrics: list[str] = [],  # noqa: B006  a form's default; nothing changes it
    trend: int = 10,
    out: Path = OUT,
) -> State:
    """Differences between revisions paired by seed, as the page `out` and the artifact `compare`.

    Args:
        revisions: Git revisions, DVC experiments or `workspace`; the first is the baseline.
        metrics: Names in results.csv, or w2_1step; leave empty for the usual ones.
        trend: How many of the commits that changed the results to show.
        out: The page.
    """
    try:
        page, said = compared(revisions, metrics, trend)
    except Refused as error:
        return Failed(message=str(error))
    write_text(out, page)
    create_markdown_artifact(said, key="compare", description=f"Against {revisions[0]}")
    return Completed(message=str(out))


class Parser(ArgumentParser):
    """Says what is wrong in one line, as the stages do."""

    def error(self, message: str) -> NoReturn:
        raise Refused(message)


def main(argv: list[str], prog: str = "python -m flows.compare") -> None:
    """`python -m flows.compare BASELINE [REVISION ...]`"""
    parser = Parser(prog, description="Differences paired by seed, and the trend.", allow_abbrev=False)
    alone = "the first is the baseline; alone it is compared with the workspace"
    parser.add_argument("revisions", nargs="+", help=f"git revisions, DVC experiments or {WORKSPACE!r}; {alone}")
    usual = f"without it {', '.join(shown_in('compared'))}, where they are measured"
    parser.add_argument("--metrics", help=f"names in results.csv, or w2_1step; comma-separated; {usual}")
    parser.add_argument(
        "--trend", type=int, default=10, help="how many of the commits that changed the results to show, 0 for none"
    )
    parser.add_argument("--out", type=Path, default=OUT, help=f"the page, {OUT} by default")
    args = parser.parse_args(argv)
    page, said = compared(args.revisions, [] if args.metrics is None else args.metrics.split(","), args.trend)
    write_text(args.out, page)
    print(f"{said}\n{args.out}")


if __name__ == "__main__":
    run(main)
