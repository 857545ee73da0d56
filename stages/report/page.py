"""The report as one HTML page that opens offline: numbers with their intervals, figures, and what made them."""

from html import escape
from importlib.metadata import version
from math import isnan
from string import Template

import pandas as pd

from rectiflow.statistics import Estimate, estimate
from stages.report import figures
from stages.report.figures import Drawn, Key
from stages.report.results import Values, against_first, by_flow, select, smallest

PACKAGES = ("rectiflow", "torch", "torchdiffeq", "POT", "lapx", "scipy", "numpy", "pyarrow", "pandas", "dvc")

RANKED = ("w2", "w2_1step", "straightness", "chord_deviation")

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>rectiflow report</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #dde1e7; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .22rem .7rem; text-align: right; border-bottom: 1px solid #eef0f3; white-space: nowrap; }
th { border-bottom: 2px solid #c8ced8; } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } figure { margin: 1rem 0; } img { max-width: 100%; } .half { color: #78808c; }
.best { font-weight: 650; }
figcaption, .note { color: #545d6b; font-size: .87rem; }
pre { background: #f5f6f8; padding: 1rem; overflow-x: auto; font-size: .8rem; }
nav a { margin-right: 1rem; }
</style></head><body>
<h1>Flows from source to target</h1>
<p>$summary</p>
<nav>$contents</nav>
$body
</body></html>
""")


def section(name: str, title: str, *parts: str) -> tuple[str, str]:
    """A heading with what stands under it, and the link to it."""
    return f'<h2 id="{name}">{escape(title)}</h2>\n' + "\n".join(parts), f'<a href="#{name}">{escape(title)}</a>'


def figure(source: str, caption: str) -> str:
    return f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def table(header: list[str], rows: list[list[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def number(value: Estimate | None) -> str:
    """`mean +- half`, the mean to the interval's second digit."""
    if value is None:
        return ""
    if isnan(value.half):
        return f"{value.mean:.3g}"
    digits = 3 if value.half == 0 else max(0, min(6, 1 - int(f"{value.half:e}".split("e")[1])))
    return f'{value.mean:.{digits}f} <span class="half">± {value.half:.{digits}f}</span>'


def summary_tables(results: pd.DataFrame, steps: int) -> list[str]:
    """One table a data set: every flow's headline numbers."""
    names = {
        "w2": f"W2, {steps} steps", "w2_1step": "W2, 1 step", "w2_floor": "W2 floor", "straightness": "straightness S",
        "chord_deviation": "chord deviation", "npe": "NPE", "velocity_error": "field error",
    }  # fmt: skip
    found = {name: by_flow(results, steps, name) for name in names}
    parts = []
    for dataset in results.dataset.unique():
        keys = [key for key in found["w2"] if key[0] == dataset]
        used = [name for name in names if any(key in found[name] for key in keys)]
        best = {name: best_flows(results, steps, name, keys) for name in RANKED}
        rows = []
        for key in keys:
            cells = [number(found[name].get(key)) for name in used]
            marked = [
                f'<span class="best">{cell}</span>' if key in best.get(name, ()) else cell
                for name, cell in zip(used, cells, strict=True)
            ]
            rows.append([f"{escape(key[1])}, round {key[2]}", *marked])
        parts += [f"<h3>{escape(dataset)}</h3>", table(["flow", *(names[name] for name in used)], rows)]
    return parts


def best_flows(results: pd.DataFrame, steps: int, name: str, keys: list[Key]) -> set[Key]:
    """The flows with the smallest headline number, and those that the seeds do not separate from them."""
    rows = {
        str(k): select(results, steps, name, dataset=key[0], method=key[1], round=key[2]).value.tolist()
        for k, key in enumerate(keys)
    }
    return {keys[int(label)] for label in smallest([Values(label, found) for label, found in rows.items() if found])}


def ratio(results: pd.DataFrame, steps: int, top: tuple[str, Key], bottom: tuple[str, Key]) -> Estimate:
    """One headline number over another, seed by seed."""
    values = [select(results, steps, name, dataset=d, method=m, round=k).value.tolist() for name, (d, m, k) in (top, bottom)]
    return estimate([a / b for a, b in zip(*values, strict=True)])


def rectified_table(results: pd.DataFrame, steps: int) -> str:
    """What each reflow round buys: one step of it against many steps of round 0."""
    rows = []
    for key in by_flow(results, steps, "straightness"):
        dataset, method, k = key
        if k:
            base, name = (dataset, method, 0), f"{escape(dataset)} {escape(method)}, round {k}"
            one = ratio(results, steps, ("w2_1step", key), ("w2", base))
            fall = ratio(results, steps, ("straightness", base), ("straightness", key))
            before = ratio(results, steps, ("w2_1step", base), ("w2", base))
            rows.append([name, number(one), number(before), number(fall)])
    return table(["flow", f"W2 of 1 step / round 0, {steps} steps", "the same without reflow", "S of round 0 / S"], rows)


def straighter_table(results: pd.DataFrame, steps: int) -> str:
    """Straightness of the methods at round 0, paired by seed with the first method."""
    rows = []
    for dataset in results.dataset.unique():
        methods = list(results[(results.dataset == dataset) & (results["round"] == 0)].method.unique())
        found = [
            Values(m, select(results, steps, "straightness", dataset=dataset, method=m, round=0).value.tolist())
            for m in methods
        ]
        for method, gap, holds in against_first(found) if found else []:
            verdict = "not separated" if not holds else "straighter" if gap.mean < 0 else "less straight"
            rows.append([f"{escape(dataset)}: {escape(method)} − {escape(methods[0])}", number(gap), verdict])
    return table(["difference in S at round 0", "paired by seed", "at 95 %, Holm"], rows)


def by_dataset(shown: dict[Key, Drawn]) -> dict[str, dict[Key, Drawn]]:
    names = dict.fromkeys(key[0] for key in shown)
    return {name: {key: drawn for key, drawn in shown.items() if key[0] == name} for name in names}


def picture_parts(shown: dict[Key, Drawn], steps: int) -> tuple[list[str], list[str]]:
    """Figures of the samples and of the paths, data set by data set."""
    points, paths = [], []
    for dataset, part in by_dataset(shown).items():
        first = next(iter(part.values()))
        seed, real = first.seed, figures.targets(first)
        if real:
            points.append(figure(real, f"{dataset}: the test set itself, seed {seed}."))
        for which, label in (("many_steps", f"{steps} Euler steps"), ("one_step", "one Euler step")):
            caption = f"{dataset}, {label}: {'draws' if real else 'draws (blue) over the test set (grey)'}, seed {seed}."
            points.append(figure(figures.samples(part, which), caption))
        caption = f"{dataset}: paths of {steps} Euler steps from source (open) to end, seed {seed}, first two coordinates."
        paths.append(figure(figures.trajectories(part), caption))
    return points, paths


def page(
    results: pd.DataFrame,
    nfe: pd.DataFrame,
    rounds: pd.DataFrame,
    losses: pd.DataFrame,
    shown: dict[Key, Drawn],
    floors: dict[str, float],
    steps: int,
    params: str,
    studies: list[tuple[str, str]],
    ended: list[str],
) -> str:
    """The whole page; `studies` are sections that look into one question, `ended` says which rounds were not worth it."""
    seeds = results.seed.nunique()
    points, paths = picture_parts(shown, steps)
    versions = table(["package", "version"], [[name, escape(version(name))] for name in PACKAGES])
    interval = (
        f"means over {seeds} seeds ± half of the 95 % interval (Student's t)" if seeds > 1 else "one seed, no interval"
    )
    sections = [
        section(
            "summary", "Summary",
            f'<p class="note">{interval}. W2 is the exact distance between as many draws as test points; its floor is the '
            "distance of a second sample of the target from the same test points, so values near the floor are as good as "
            "this test can tell. Straightness, chord deviation and NPE are measured on the reference paths; the field error "
            "is relative to the closed form, where there is one. Bold: the smallest of a column and what the seeds do not "
            "separate from it (t tests paired by seed, Holm's correction).</p>",
            *summary_tables(results, steps),
        ),
        section(
            "rectified", "What reflow buys",
            f'<p class="note">Ratios are formed seed by seed; {interval}.</p>', rectified_table(results, steps),
            *(f"<p>{escape(why[0].upper() + why[1:])}.</p>" for why in ended),
            figure(figures.per_round(rounds), "Straightness S after each round; zero is a straight flow. Means over seeds."),
        ),
        section("straighter", "Which method starts straighter", straighter_table(results, steps)),
        *studies,
        section(
            "nfe", "W2 against function evaluations",
            figure(
                figures.against_nfe(nfe, floors),
                "W2 against the evaluations that the solver counted; bars are 95 % intervals, the number is the round. "
                "Circles: Euler; diamonds: adaptive solvers.",
            ),
        ),
        section("samples", "Samples against the target", *points),
        section("trajectories", "Trajectories", *paths),
        section(
            "training", "Training curves",
            figure(
                figures.training(losses),
                "Held-out loss of the averaged weights, mean over seeds. Different paths have different floors: compare "
                "a curve with itself, not with another path's.",
            ),
        ),
        section("made", "What made this", versions, f"<h3>params.yaml</h3><pre>{escape(params)}</pre>"),
    ]  # fmt: skip
    flows = len(shown)
    summary = (
        f"{flows} trained flows on {len(floors)} data sets, {seeds} seed{'s' * (seeds != 1)} each. Every number comes from "
        "<code>reports/results.csv</code>; <code>dvc metrics diff</code> and <code>dvc plots diff</code> compare it "
        "across commits."
    )
    bodies, links = zip(*sections, strict=True)
    return PAGE.substitute(summary=summary, contents=" ".join(links), body="\n".join(bodies))
