"""Do nats and distances order flows alike, what does a round cost in likelihood, and which score finds outliers?"""

from collections.abc import Sequence
from html import escape
from typing import Any

from scipy.stats import kendalltau

from rectiflow.statistics import estimate, paired
from stages.report.evidence import Evidence, finding, measured, values
from stages.report.figures import COLOURS, panels, uri
from stages.report.html import figure, table
from stages.report.printing import difference, plain
from stages.report.results import select
from stages.shared.measures import MEASURES
from stages.shared.studies import Study


def likelihood(study: Study, evidence: Evidence) -> list[str]:
    """KL beside W2 over the methods of round 0, the change of a round in both, and the best at outliers."""
    parts = [part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)]
    known = [dataset for dataset in study.datasets if both(study, evidence, dataset)]
    if known:
        caption = "KL to the truth against W2 of the reference draws, both with 95 % intervals; left and below is better."
        parts.append(figure(beside(study, evidence, known), caption))
    return parts


def both(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """The methods that have KL and W2 on a data set."""
    return [m for m in study.methods if all(values(evidence, name, dataset, m, 0) for name in ("kl", "w2"))]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """What was found on a data set."""
    said = []
    likely = [m for m in study.methods if values(evidence, "nll", dataset, m, 0)]
    if methods := both(study, evidence, dataset):
        said += [measured(evidence, name, dataset, methods) for name in ("kl", "w2")]
        if len(methods) > 2:
            said.append(order(evidence, dataset, methods))
    elif likely:
        said.append(measured(evidence, "nll", dataset, likely))
    said += [line for method in study.methods if (line := round_costs(evidence, dataset, method))]
    if found := detection(study, evidence, dataset):
        said.append(found)
    if not said:
        return []
    rows = changes(study, evidence, dataset)
    header = ["first round", "change of KL, nats", "change of W2"]
    return [finding(dataset, f"{'; '.join(said)}.")] + ([table(header, rows)] if rows else [])


def order(evidence: Evidence, dataset: str, methods: Sequence[str]) -> str:
    """How alike the two measures order the methods, by their means."""
    means = [[estimate(values(evidence, name, dataset, m, 0)).mean for m in methods] for name in ("kl", "w2")]
    tau = float(kendalltau(*means).statistic)
    return f"over {len(methods)} methods the two orders have Kendall's tau {tau:.2f} (1: the same, 0: unrelated)"


def gap(evidence: Evidence, name: str, dataset: str, method: str) -> list[list[float]]:
    """A measure after the first round and before it, seed by seed; empty where there is no round."""
    rounds = [values(evidence, name, dataset, method, k) for k in (1, 0)]
    return rounds if all(rounds) else []


def round_costs(evidence: Evidence, dataset: str, method: str) -> str:
    """What the first round does to the likelihood, in words."""
    if not (rounds := gap(evidence, "kl", dataset, method)):
        return ""
    cost = paired(rounds[0], rounds[1])
    verdict = "which the seeds do not tell from nothing" if abs(cost.mean) <= cost.half or cost.n < 2 else "which is real"
    return f"a round of {method} changes KL by {plain(cost)} nats, {verdict}"


def changes(study: Study, evidence: Evidence, dataset: str) -> list[list[str]]:
    """The same for KL and W2 as rows."""
    rows = []
    for method in study.methods:
        found = [gap(evidence, name, dataset, method) for name in ("kl", "w2")]
        if all(found):
            rows.append([escape(method), *(difference(after, before) for after, before in found)])
    return rows


def detection(study: Study, evidence: Evidence, dataset: str) -> str:
    """Who tells the outliers best, of methods and baselines, and what the data set's own density reaches."""
    rows = select(evidence.results, "auroc", dataset=dataset, round=0)
    others = [name for name in rows.method.unique() if name not in study.methods]
    if rows.empty:
        return ""
    said = measured(evidence, "auroc", dataset, [*study.methods, *others])
    ceiling = select(evidence.results, "auroc_ceiling", dataset=dataset, round=0).groupby("seed").value.first()
    return said if ceiling.empty else f"{said}, of a ceiling of {plain(estimate(ceiling.tolist()))}"


def beside(study: Study, evidence: Evidence, datasets: Sequence[str]) -> str:
    """KL against W2, a panel for each data set, a point for each method."""
    drawn, axes = panels(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=False):
        for k, method in enumerate(both(study, evidence, dataset)):
            x, y = (estimate(values(evidence, name, dataset, method, 0)) for name in ("w2", "kl"))
            style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "marker": "oDsv^P"[k // len(COLOURS) % 6]}
            ax.errorbar(x.mean, y.mean, y.half, x.half, capsize=2, ms=4, elinewidth=0.7, ls="", label=method, **style)
        if floors := evidence.floors.get(dataset):
            ax.axvline(floors, color="#666", lw=0.8)
        below = any(estimate(values(evidence, "kl", dataset, m, 0)).mean <= 0 for m in both(study, evidence, dataset))
        ax.set(title=dataset, yscale="linear" if below else "log", xlabel=MEASURES["w2"].axis, ylabel=MEASURES["kl"].axis)
        ax.legend(fontsize=7, ncols=2)
    return uri(drawn, "svg")
