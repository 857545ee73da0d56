"""Which path a small budget picks for a data set, and how well that was."""

from html import escape

from stages.report.evidence import Evidence, finding, measured, verdict
from stages.report.html import table
from stages.report.printing import html, shown
from stages.report.results import Values, against_first, evaluations, ranked
from stages.shared.studies import Study


def choice(study: Study, evidence: Evidence) -> list[str]:
    """Each choice's finding and table."""
    parts, choices = [], evidence.table("choices")
    for name, found in choices[choices.dataset.isin(study.datasets)].groupby("name", sort=False):
        by_path = ranked([Values(path, rows.w2.tolist()) for path, rows in found.groupby("path", sort=False)])
        gaps = {label: (gap, holds) for label, gap, holds in against_first(by_path)}
        budget, nfe, dataset = int(found.steps.iloc[0]), int(found.nfe.iloc[0]), found.dataset.iloc[0]
        results = evidence.results
        full = results[(results.dataset == dataset) & results.method.isin(study.methods) & (results["round"] == 0)]
        said = (
            f"the choice is {by_path[0].label}: after {budget} training steps and at {nfe} evaluations, "
            f"{verdict(by_path, 'held-out W2')}. Trained in full, at {evaluations(full)}, "
            f"{measured(evidence, 'w2', dataset, study.methods)}."
        )
        parts.append(finding(name, said))
        floor = shown(found[found.path == by_path[0].label].floor.tolist())
        rows = [
            [escape(row.label), shown(row.values), html(gaps[row.label][0]) if row.label in gaps else "",
             "" if row.label not in gaps else "behind" if gaps[row.label][1] else "not separated", floor]
            for row in by_path
        ]  # fmt: skip
        parts.append(table(["path", f"held-out W2, {nfe} steps", "minus the first", "at 95 %, Holm", "floor"], rows))
    return parts
