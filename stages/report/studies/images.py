"""Pictures: how far draws are from the test set by what a judge sees, what rounds, guidance, couplings and bottlenecks
change of it, and the pictures themselves.
"""

from collections.abc import Sequence
from html import escape
from itertools import product

from rectiflow.statistics import estimate, improves, paired
from stages.report import sheets
from stages.report.evidence import Evidence, finding, verdict
from stages.report.figures import levels, line_style, panels, uri
from stages.report.html import figure, note, part, table
from stages.report.printing import difference, plain, shown
from stages.report.results import Values, against_first, ranked, select
from stages.report.studies.changes import Change, changes, word
from stages.report.studies.claims import claims
from stages.report.studies.draws import FEATURES, PIXELS, Draws, evaluations
from stages.shared.measures import measure
from stages.shared.studies import Study

CHANGED = ("frechet", "kernel_distance", *FEATURES, *PIXELS, "judged_accuracy")
DECODERS = {  # what reconstructions have in the column of a measure
    "frechet": "frechet_decoder", "frechet_reconstructed": "frechet_reconstructed_floor", "w2": "w2_decoder",
    "w2_reconstructed": "w2_reconstructed_floor",
}  # fmt: skip
NAMES = {"w2": "W2 of pixels (ranks nothing)", "w2_reconstructed": "W2 of pixels to reconstructions (ranks nothing)"}


def title(name: str) -> str:
    """How a column is called."""
    return NAMES.get(name, measure(name).title)


def findings(what: str, said: Sequence[str]) -> str:
    """What was found, of what: one sentence, or a list of several."""
    if len(said) == 1:
        return finding(what, f"{said[0]}.")
    return f"<p><b>{escape(what)}</b>:</p><ul>{''.join(f'<li>{escape(each)}.</li>' for each in said)}</ul>"


def images(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's findings, tables and pictures, the figure of all, and the claims."""
    found = [Draws(study, evidence, dataset) for dataset in study.datasets]
    parts = [note(caveats(evidence, found))] + [each for of in found for each in of_dataset(of)]
    if judged := [of for of in found if "frechet" in of.names]:
        caption = "Frechet distance against evaluations; bars are 95 % intervals over seeds. Diamonds are guided."
        parts.append(figure(curves(judged), caption))
    return [*parts, *claims(study, evidence)]


def caveats(evidence: Evidence, found: Sequence[Draws]) -> str:
    """How the numbers are to be read."""
    said = [
        "W2 between pixels rewards blur, as a mean of pictures is near to each of them: it stands here as what it is, and "
        "ranks nothing."
    ]
    if any("frechet" in of.names for of in found):
        right = select(evidence.results, "judge_accuracy")
        right = right[right.dataset.isin([of.dataset for of in found])]
        worth = "".join(
            f" The judge {escape(name)} is right about a share of {shown(rows.value.tolist())} of the test set."
            for name, rows in right.groupby("method", sort=False)
        )
        said.append(
            "The Frechet and the kernel distance, precision and recall are between features of a judge, a classifier; they "
            f"depend on how many draws there are, and are read beside those of real pictures.{worth}"
        )
    if any("judged_accuracy" in of.names for of in found):
        said.append(
            "The share of draws that the judge takes for their class is no measure of quality alone: it takes the mean "
            "picture of a class for it, too."
        )
    if any("neighbour" in of.names for of in found):
        said.append(
            "Draws nearer to the training set than the test set is repeat it, or are blurred: a mean of pictures is near."
        )
    return " ".join(said)


def of_dataset(of: Draws) -> list[str]:
    """All of a data set."""
    if not of.draws:
        return [finding(of.dataset, "nothing was drawn")]
    found = [*changes(of)]
    parts = [ranking(of), *told(of, found), *reconstructed(of), *deceived(of), *copied(of)]
    return [*parts, numbers(of), *changed(of, found), *gallery(of)]


# ---- What was found.


def ranking(of: Draws) -> str:
    """The best by what ranks pictures."""
    names = ["frechet"] if "frechet" in of.names else [name for name in (*FEATURES, *PIXELS) if name in of.names]
    if not names:
        return finding(
            of.dataset,
            "nothing was measured that ranks pictures; with modes in its block of the grid there are precision and recall.",
        )
    said = []
    for name in names:
        of_it, better = measure(name).title, measure(name).better
        rows = [(draw, Values(draw.label, found)) for draw in of.draws if (found := of.values(draw, name))]
        references = [row for draw, row in rows if draw.role == "reference"]
        floor = f" (real pictures: {plain(estimate(of.floor(name)))})" if of.floor(name) else ""
        said.append(f"of the reference draws, {verdict(references, f'{of_it}{floor}', better)}")
        first, *others = ranked([row for _, row in rows], better)
        behind = sum(holds for *_, holds in against_first([first, *others]))
        said[-1] += (
            f"; of all {len(rows)} draws it is that of {first.label}, {plain(estimate(first.values))}, from which the seeds "
            f"separate {behind or 'no'} other{'s' * (behind != 1)}"
        )
    return findings(of.dataset, said)


KINDS = {
    "rounds": ("what a round of reflow changes", ("frechet", *FEATURES, *PIXELS)),
    "guidance": ("what guidance changes", ("frechet", *FEATURES, *PIXELS, "judged_accuracy")),
    "couplings": ("pairs of a plan against independent ones", ("frechet", *FEATURES, *PIXELS)),
}  # what each kind of change is called, and the measures that are told of it; with a Frechet distance a round's alone


def told(of: Draws, found: Sequence[Change]) -> list[str]:
    """A finding for each kind of change, in sentences."""
    said = []
    for kind, (what, names) in KINDS.items():
        there = [name for name in names if name in of.names]
        there = there[:1] if kind != "guidance" and "frechet" in there else there
        subjects: dict[str, list[Change]] = {}
        for change in found:
            if change.kind == kind:
                subjects.setdefault(change.subject, []).append(change)
        sentences = [text for subject, mine in subjects.items() if (text := sentence(of, subject, mine, there))]
        said += [findings(f"{of.dataset}, {what}", sentences)] if sentences else []
    return said


def sentence(of: Draws, subject: str, found: Sequence[Change], names: Sequence[str]) -> str:
    """By how much every measure changes wherever it is told, and whether the seeds say so; empty where none is known."""
    once, parts = len(found) == 1, []
    for name in names:
        both = [(of.both(change.of, change.than, name), "" if once else f" {change.where}") for change in found]
        by = [f"by {amount(*sides, name)}{where}" for sides, where in both if sides]
        parts += [f"the {title(name)} {', '.join(by)}"] if by else []
    return f"{subject}{f', {found[0].where}' if once else ''}: {', '.join(parts)}" if parts else ""


def amount(of: Sequence[float], than: Sequence[float], name: str) -> str:
    """A difference with its interval, and whether it is for the better."""
    gap = paired(of, than)
    return f"{plain(gap)} ({word(gap, name)})"


def reconstructed(of: Draws) -> list[str]:
    """What the decoder loses and what the flow of its latents adds, always together."""
    said = []
    for method, k in of.models:
        draw = of.reference(method, k)
        if draw is None or not draw.decoder or "frechet_reconstructed" not in of.names:
            continue
        both, own = (plain(estimate(of.values(draw, name))) for name in ("frechet", "frechet_reconstructed"))
        decoder, floor = (
            plain(estimate(of.of_model(DECODERS[name], draw))) for name in ("frechet", "frechet_reconstructed")
        )
        said.append(
            f"draws of {draw.model} are at a Frechet distance of {both} from the test set, reconstructions of real "
            f"pictures, which are the decoder's part, at {decoder}; from reconstructions the draws are at {own}, whose "
            f"floor is {floor}"
        )
    return [findings(f"{of.dataset}, latents", said)] if said else []


def deceived(of: Draws) -> list[str]:
    """Where numbers that do not rank pictures prefer a single step of a flow to the reference, which is far better."""
    said = []
    for method, k in of.models:
        one, many = of.plain(method, k).get(1), of.reference(method, k)
        if one is None or many is None or "frechet" not in of.names:
            continue
        far, near = (estimate(of.values(draw, "frechet")) for draw in (one, many))
        if far.mean - (0 if far.n < 2 else far.half) <= near.mean:
            continue
        for name in ("judged_accuracy", "w2"):
            if both := of.both(one, many, name):
                a, b = map(estimate, both)
                if (a.mean >= b.mean) if measure(name).better == "larger" else (a.mean <= b.mean):
                    said.append(
                        f"the {title(name)} of a single step of {one.model} is {plain(a)}, no worse than the {plain(b)} of "
                        f"{evaluations(many.passes)}, at Frechet distances of {plain(far)} and {plain(near)}"
                    )
    return [findings(f"{of.dataset}, what deceives", said)] if said else []


def copied(of: Draws) -> list[str]:
    """Whether draws repeat the training set."""
    floor = of.floor("neighbour")
    near: list[str] = []
    rest: list[str] = []
    for model in of.models:
        draw = of.reference(*model)
        if draw and len(found := of.values(draw, "neighbour")) == len(floor) > 0:
            (near if improves(paired(found, floor)) else rest).append(f"{draw.model} ({plain(estimate(found))})")
    if not near + rest:
        return []
    real = f"the test set's own median distance to the nearest picture of the training set is {plain(estimate(floor))}"
    beyond = f"nearer are draws of {', '.join(near)}: copies, or blurred" if near else "no draws are nearer"
    others = f"; as far or farther: {', '.join(rest)}" if rest else ""
    return [finding(f"{of.dataset}, copies", f"{real}; {beyond}{others}.")]


# ---- Tables.


def numbers(of: Draws) -> str:
    """Every draw with all that was measured, reconstructions, and real pictures."""
    rows = [
        [escape(draw.model), escape(draw.solver), f"{draw.nfe:.4g}", *(shown(of.values(draw, name)) for name in of.names)]
        for draw in of.draws
    ]
    decoded: dict[tuple[str, ...], list[str]] = {}
    for method, k in of.models:
        if draw := of.reference(method, k):
            cells = tuple(shown(of.of_model(DECODERS[name], draw)) if name in DECODERS else "" for name in of.names)
            decoded.setdefault(cells, []).append(method)
    rows += [
        [f"reconstructions ({escape(', '.join(dict.fromkeys(methods)))})", "", "", *cells]
        for cells, methods in decoded.items()
        if any(cells)
    ]
    real = [shown(of.floor(name)) if "_reconstructed" not in name else "" for name in of.names]
    return table(
        ["model", "drawn by", "evaluations", *map(title, of.names)], [*rows, ["real pictures (floor)", "", "", *real]]
    )


def changed(of: Draws, found: Sequence[Change]) -> list[str]:
    """All changes of all measures that rank."""
    names = [name for name in CHANGED if name in of.names]
    rows = [[escape(f"{change.subject}, {change.where}"), *(cell(of, change, name) for name in names)] for change in found]
    rows = [row for row in rows if any(row[1:])]
    if not rows:
        return []
    said = (
        "Differences, paired by seed; an arrow marks those that are for the better (up) or the worse (down) beyond their "
        "own 95 % interval: where there is none, one in twenty has an arrow by chance."
    )
    return [note(said), table(["change", *map(title, names)], rows)]


def cell(of: Draws, change: Change, name: str) -> str:
    """A difference with its mark."""
    if (both := of.both(change.of, change.than, name)) is None:
        return ""
    return difference(*both) + {"better": " ↑", "worse": " ↓", "not told apart": ""}[word(paired(*both), name)]


# ---- Pictures.


def gallery(of: Draws) -> list[str]:
    """The pictures of the study's methods."""
    if (album := of.evidence.album(of.dataset)) is None:
        return []
    album = album._replace(rolls={key: album.rolls[key] for key in of.models if key in album.rolls})
    return [
        part(f"{of.dataset}: {name}", *parts)
        for name, parts in {
            "draws beside real pictures": sheets.by_class(album, of.dataset),
            "few steps and many from the same x0": sheets.by_steps(album, of.dataset),
            "from noise to picture": sheets.by_time(album, of.dataset),
        }.items()
        if parts
    ]


def curves(found: Sequence[Draws]) -> str:
    """A panel for each data set, a line for each model."""
    drawn, axes = panels(len(found))
    for ax, of in zip(axes, found, strict=False):
        for (method, k), guided in product(of.models, (False, True)):
            draws = [d for d in of.draws if (d.method, d.round) == (method, k) and bool(d.guidance) == guided]
            points = {d: estimate(values) for d in draws if (values := of.values(d, "frechet"))}
            style = line_style(of.study.methods, method, k) | {"ms": 4, "capsize": 2, "elinewidth": 0.7, "marker": "o"}
            style |= {"ls": "", "marker": "D", "mfc": "white"} if guided else {"label": f"{method}, round {k}"}
            if points:
                means, halves = ([getattr(each, name) for each in points.values()] for name in ("mean", "half"))
                ax.errorbar([draw.nfe for draw in points], means, halves, **style)
        if floor := of.floor("frechet"):
            levels(ax, estimate(floor).mean)
        ax.set(title=of.dataset, xscale="log", yscale="log", xlabel="function evaluations", ylabel=measure("frechet").title)
        ax.legend(fontsize=7, ncols=2)
    return uri(drawn, "svg")
