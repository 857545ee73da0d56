"""The report as one HTML page that opens offline: numbers with their intervals, figures, and what made them."""

from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib.metadata import version

import pandas as pd

from stages.report import densities, figures, gradient_flows
from stages.report.browser.measurements import SCRIPT as MEASUREMENTS
from stages.report.browser.player import SCRIPT as PLAYER
from stages.report.densities import DensityMap
from stages.report.evidence import Evidence, values
from stages.report.figures import Drawn
from stages.report.gradient_flows import Followed
from stages.report.html import Section, document, figure, note, part, section, table
from stages.report.measurements import link, measurements
from stages.report.printing import difference, shown
from stages.report.results import (
    FLOW,
    Key,
    Values,
    against_first,
    best,
    by_flow,
    evaluations,
    per_round,
    select,
    title,
    values_by_flow,
)
from stages.report.studies.kinds import STUDIES
from stages.report.trajectories import by_dataset, reference_title, trajectory_parts
from stages.shared.measures import MEASURES, Place, measure, shown_in
from stages.shared.studies import Study

TITLE = "W2 against function evaluations"
PACKAGES = ("torch", "torchdiffeq", "POT", "lapx", "scipy", "numpy", "pyarrow", "pandas", "dvc")


def tables(results: pd.DataFrame, place: Place, pictures: Collection[str] = ()) -> list[str]:
    """One table a data set: the numbers that a place shows, of every model that has some of them; those that rank are bold,
    but distances between pixels of `pictures`, data sets, which rank nothing.
    """
    parts = []
    for dataset, here in results.groupby("dataset", sort=False):
        keys = [(d, m, int(k)) for d, m, k in here[FLOW].drop_duplicates().itertuples(index=False)]
        found = {name: values_by_flow(here, name) for name in shown_in(place)}
        found = {name: of for name, of in found.items() if of}
        keys = [key for key in keys if any(key in of for of in found.values())]
        if not keys:
            continue
        ranks = [name for name in shown_in("ranked") if not (dataset in pictures and MEASURES[name].pixelwise)]
        bold = {name: best_models(here, name, keys) for name in ranks if name in found}
        rows = []
        for key in keys:
            cells = [
                marked(shown(of.get(key, []), link(key, name)), key in bold.get(name, ())) for name, of in found.items()
            ]
            rows.append([f"{escape(key[1])}, round {key[2]}", *cells])
        parts += [f"<h3>{escape(dataset)}</h3>", table(["model", *(title(here, name) for name in found)], rows)]
    return parts


def marked(cell: str, best: bool) -> str:
    """A cell in bold if it is among the best."""
    return f'<span class="best">{cell}</span>' if best else cell


def best_models(results: pd.DataFrame, name: str, keys: Sequence[Key]) -> set[Key]:
    """The models with the best value of a measure, and those that the seeds do not separate from them."""
    rows = [
        Values(str(i), select(results, name, dataset=dataset, method=method, round=k).value.tolist())
        for i, (dataset, method, k) in enumerate(keys)
    ]
    return {keys[int(label)] for label in best([row for row in rows if row.values], MEASURES[name].better)}


def ratio(evidence: Evidence, top: tuple[str, Key], bottom: tuple[str, Key]) -> list[float]:
    """One measure over another, seed by seed."""
    pairs = zip(*(values(evidence, name, *key) for name, key in (top, bottom)), strict=True)
    return [a / b for a, b in pairs]


def rectified_table(evidence: Evidence) -> str:
    """What each reflow round buys: one step of it against many steps of round 0."""
    rows = []
    for key in by_flow(evidence.results, "straightness"):
        dataset, method, k = key
        if k:
            base, name = (dataset, method, 0), f"{escape(dataset)} {escape(method)}, round {k}"
            one = ratio(evidence, ("w2_1step", key), ("w2", base))
            fall = ratio(evidence, ("straightness", base), ("straightness", key))
            before = ratio(evidence, ("w2_1step", base), ("w2", base))
            rows.append([name, shown(one), shown(before), shown(fall)])
    flows = evidence.results[evidence.results["round"] > 0]
    header = ["flow", f"{measure('w2_1step').title} / round 0, {evaluations(flows)}", "the same without reflow"]
    return table([*header, "S of round 0 / S"], rows)


def straighter_rows(evidence: Evidence) -> list[list[str]]:
    """Straightness of the methods at round 0, paired by seed with the first method."""
    rows = []
    for dataset, here in select(evidence.results, "straightness", round=0).groupby("dataset", sort=False):
        found = [Values(method, one.value.tolist()) for method, one in here.groupby("method", sort=False)]
        for other, (method, gap, holds) in zip(found[1:], against_first(found), strict=True):
            verdict = "not separated" if not holds else "straighter" if gap.mean < 0 else "less straight"
            rows.append(
                [
                    f"{escape(dataset)}: {escape(method)} − {escape(found[0].label)}",
                    difference(other.values, found[0].values),
                    verdict,
                ]
            )
    return rows


def sample_parts(shown: Mapping[Key, Drawn]) -> list[str]:
    """Figures of the draws, data set by data set."""
    parts: list[str] = []
    for dataset, here in by_dataset(shown).items():
        first, pictures = next(iter(here.values())), []
        if real := figures.targets(first):
            pictures.append(figure(real, f"{dataset}: the test set itself, seed {first.seed}."))
        said = "draws" if real else "draws (blue) over the test set (grey)"
        draws = {
            reference_title(here): {key: drawn.reference for key, drawn in here.items()},
            "one Euler step": {key: drawn.one_step for key, drawn in here.items() if drawn.one_step is not None},
        }
        for name, of in draws.items():
            if of:
                pictures.append(figure(figures.samples(of, here), f"{dataset}, {name}: {said}, seed {first.seed}."))
        parts.append(part(dataset, *pictures, unfolded=not parts))
    return parts


def interval(seeds: int) -> str:
    """How the numbers are given."""
    return f"means over {seeds} seeds ± half of the 95 % interval (Student's t)" if seeds > 1 else "one seed, no interval"


READ = {
    "w2": (
        "W2 is the exact distance between as many draws as test points; its floor is the distance of a second sample of the "
        "target from the same test points, so values near the floor are as good as this test can tell; draws that are told "
        "the conditions of the test points may be nearer to these than that. Straightness, chord "
        "deviation and NPE are measured on the reference paths of flows; the field error is relative to the closed form, "
        "where there is one. "
    ),
    "nll": "NLL is the mean of -log p over the test points in nats; its floor is the entropy of the target. ",
    "cells_tv": (
        "Tokens have no distance: TV is the total variation between the histogram of as many draws as test rows and the law "
        "of the target or, where it is not known, the test set's; its floor is that of a second sample of the target. "
    ),
}  # how measures are read


def measured(results: pd.DataFrame, name: str) -> bool:
    return not select(results, name).empty


def summary(results: pd.DataFrame, pictures: Collection[str] = ()) -> Section:
    """The headline numbers, and how to read them; `pictures` are the data sets whose rows are some."""
    said = (
        f"{interval(results.seed.nunique())}. {''.join(text for name, text in READ.items() if measured(results, name))}"
        f"{seen(results, pictures)}Bold: the best of a column and what the seeds do not separate from it (t tests paired by "
        "seed, Holm's correction)."
    )
    return section("summary", "Summary", note(said), *tables(results, "summary", pictures))


def seen(results: pd.DataFrame, pictures: Collection[str]) -> str:
    """How numbers of pictures are read; nothing without any."""
    said = ""
    if pictures:
        said += (
            f"W2 between pixels rewards blur, as the mean of several pictures is near to each: on pictures "
            f"({escape(', '.join(pictures))}) it ranks nothing. "
        )
    if not (right := select(results, "judge_accuracy")).empty:
        shares = [f"{escape(name)} {shown(of.value.tolist())}" for name, of in right.groupby("method", sort=False)]
        said += (
            "The Frechet distance is between features of a judge, a classifier that has seen no test point, one for each "
            f"seed; it is worth no more than the judge is right, about a share of the test points of {', '.join(shares)}. "
            "Draws that are nearer to the training set than the test set is repeat what was trained on. "
        )
    return said


def flow_sections(evidence: Evidence, ended: Sequence[str]) -> list[Section]:
    """What rounds change and why some came to an end, and which method starts straighter; nothing without flows."""
    rounds = per_round(evidence.results, ["straightness"])
    if rounds.empty:
        return []
    caption = "Straightness S after each round; zero is a straight flow. Means over seeds."
    header = ["difference in S at round 0", "paired by seed", "at 95 %, Holm"]
    return [
        section(
            "rectified",
            "What reflow buys",
            note(f"Ratios are formed seed by seed; {interval(evidence.results.seed.nunique())}."),
            rectified_table(evidence),
            *(f"<p>{escape(why[0].upper() + why[1:])}.</p>" for why in ended),
            figure(figures.per_round(rounds), caption),
        ),
        section("straighter", "Which method starts straighter", table(header, straighter_rows(evidence))),
    ]


def study_sections(studies: Mapping[str, Study], evidence: Evidence) -> list[Section]:
    """The sections of all rows of `studies`, each made by its kind."""
    return [section(name, row.title, *STUDIES[row.kind](row, evidence)) for name, row in studies.items()]


def page(
    evidence: Evidence,
    losses: pd.DataFrame,
    shown: Mapping[Key, Drawn],
    params: str,
    studies: Sequence[Section],
    ended: Sequence[str],
    maps: Mapping[Key, DensityMap],
    descents: Mapping[str, Followed],
    made: Sequence[str] = (),
) -> str:
    """The whole page; `studies` are sections that look into one question, `ended` says which rounds were not worth it, and
    `made` what made the numbers.
    """
    results, nfe, floors = evidence.results, evidence.nfe, evidence.floors
    against_nfe = (
        "W2 against the evaluations that the solver counted; bars are 95 % intervals, the number is the round. "
        "Circles: Euler; diamonds: all others."
    )
    training = (
        "Held-out loss of the averaged weights, mean over seeds. Different paths and objectives have different floors: "
        "compare a curve with itself, not with another path's."
    )
    models, real = losses[FLOW].drop_duplicates(), [name for name in results.dataset.unique() if not evidence.tokens(name)]
    numbers = results[results.dataset.isin(real)]
    versions = table(["package", "version"], [[name, escape(version(name))] for name in PACKAGES])
    sections = [
        summary(results, list(dict.fromkeys(key[0] for key, drawn in shown.items() if len(drawn.shape) == 3))),
        *flow_sections(evidence, ended),
        *densities.sections(numbers, maps, {place: tables(numbers, place) for place in ("densities", "outliers")}),
        *gradient_flows.sections(descents, results),
        *studies,
        *([] if nfe.empty else [section("nfe", TITLE, figure(figures.against_nfe(nfe, floors), against_nfe))]),
        *([section("samples", "Samples against the target", *sample_parts(shown))] if shown else []),
        *([section("trajectories", "Trajectories", *paths)] if (paths := trajectory_parts(shown)) else []),
        section("training", "Training curves", figure(figures.training(losses), training)),
        measurements(results),
        section("made", "What made this", versions, *made, part("params.yaml", f"<pre>{escape(params)}</pre>")),
    ]
    seeds = results.seed.nunique()
    lead = (
        f"<p>{len(models)} trained models on {models.dataset.nunique()} data sets, {seeds} seed{'s' * (seeds != 1)} each. "
        "Every number comes from <code>reports/results.csv</code>; <code>dvc metrics diff</code> and "
        "<code>dvc plots diff</code> compare it across commits. What ran when, and how long it took: "
        '<a href="times.html">times of the last runs</a> on this machine, if there were any.</p>\n'
    )
    return document(
        "rectiflow report",
        "Flows from source to target",
        sections,
        lead,
        scripts=(PLAYER, MEASUREMENTS),
        seeds=sorted(results.seed.unique().tolist()),
    )
