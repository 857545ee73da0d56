"""Prediction in latents: whether these have collapsed, what the decoder sees of them, and flows that run on them."""

from html import escape

from rectiflow.statistics import estimate
from stages.report.evidence import Evidence, finding, measured, values
from stages.report.html import note, table
from stages.report.printing import plain, shown
from stages.report.results import select
from stages.shared.measures import MEASURES
from stages.shared.studies import Study

NAMES = ("latent_rank", "latent_deviation", "w2", "given_w2")


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
    rows = [[escape(m), *(shown(values(evidence, name, dataset, m, 0)) for name in names)] for m in study.methods]
    floors = [floor(evidence, dataset, name) for name in names]
    head = ["method", *(MEASURES[name].title for name in names)]
    return [finding(dataset, f"{said}."), table(head, [*rows, ["floor, or the most there is", *map(shown, floors)]])]


def floor(evidence: Evidence, dataset: str, name: str) -> list[float]:
    """The floor or ceiling of a measure, seed by seed: the same beside every method."""
    of = MEASURES[name].floor
    return select(evidence.results, of, dataset=dataset).groupby("seed").value.first().tolist() if of else []
