"""Prediction in latents: whether these have collapsed, what the decoder sees of them, and flows that run on them."""

from html import escape

from rectiflow.statistics import estimate
from stages.report.evidence import Evidence, finding, measured, values
from stages.report.html import note, table
from stages.report.printing import plain, shown
from stages.report.studies.latents import cell
from stages.shared.measures import measure
from stages.shared.studies import Study

NAMES = ("latent_rank", "latent_deviation", "w2", "given_w2")
WITH = {"smaller": " (floor)", "larger": " (most)"}


def predictive(study: Study, evidence: Evidence) -> list[str]:
    """Each data set's finding and table."""
    return [
        *(part for dataset in study.datasets for part in of_dataset(study, evidence, dataset)),
        note(
            "The effective rank is how many directions of the latents vary alike; latents that are one point have the "
            "deviation 0. Draws of a predictor are the decoder's states of the latent that it predicts, one for each state "
            "and action, and have no noise: W2 given the condition tells how far they are from a law that has some. W2 is "
            "that to the test set, whose states and actions draws are given: it may be below its floor."
        ),
    ]


def of_dataset(study: Study, evidence: Evidence, dataset: str) -> list[str]:
    """The rank of each method, the best by it, and all numbers beside their floors."""
    there = [method for method in study.methods if values(evidence, "latent_rank", dataset, method, 0)]
    ranks = [f"{method} {plain(estimate(values(evidence, 'latent_rank', dataset, method, 0)))}" for method in there]
    said = f"effective ranks of the latents: {', '.join(ranks)}; {measured(evidence, 'latent_rank', dataset, there)}"
    names = [name for name in NAMES if any(values(evidence, name, dataset, method, 0) for method in study.methods)]
    rows = [[escape(m), *(number(evidence, name, dataset, m) for name in names)] for m in study.methods]
    head = ["method", *(f"{measure(name).title}{beside(name)}" for name in names)]
    return [finding(dataset, f"{said}."), table(head, rows)]


def beside(name: str) -> str:
    """What stands beside a measure, as its column says."""
    return WITH[measure(name).better] if measure(name).floor else ""


def number(evidence: Evidence, name: str, dataset: str, method: str) -> str:
    """A measure, with its floor or with the most that there is where it has one."""
    if measure(name).floor:
        return cell(evidence, name, dataset, method, 0)
    return shown(values(evidence, name, dataset, method, 0))
