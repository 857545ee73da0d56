"""What every number is: its title, unit and floor, which way it is better, which rows it is taken from, and who shows it.

A new measure is one entry of MEASURES: verdicts, bold cells, titles, axes, `metrics.json` and run pages ask this table.
"""

from typing import Literal, NamedTuple

Better = Literal["smaller", "larger", ""]
Place = Literal["metrics", "summary", "ranked", "compared", "published", "densities", "outliers"]

LENGTH, SQUARE, NATS, SEEN = "units of x", "squared units of x", "nats", "squared units of the features"
DEVIATIONS = "deviations of the system"

Places = tuple[Place, ...]


class Measure(NamedTuple):
    """One kind of number.

    `floor` names the measure that a perfect model has on average, if there is one. `better` is empty for what is neither
    good nor bad, such as a floor. The values are those of `metric` (its own name if empty) in the rows of `role`, one a
    seed. `shown` says where: in `metrics.json` and on run pages, in the report's summary, ranked there (the best are bold),
    in a comparison that names no metrics, beside published numbers, in the sections on densities and outliers. `pixelwise`
    is a distance between points that says little of pictures, where the mean of many is near to each: none is ranked by it.
    """

    title: str
    unit: str = ""
    better: Better = "smaller"
    floor: str | None = None
    metric: str = ""
    role: str = ""
    shown: Places = ()
    pixelwise: bool = False

    @property
    def axis(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


FLOOR: Places = ("metrics", "summary")
RANKED: Places = ("metrics", "summary", "ranked")
COMPARED: Places = ("metrics", "summary", "ranked", "compared")

MEASURES: dict[str, Measure] = {
    "w2": Measure("W2", LENGTH, "smaller", "w2_floor", role="reference", shown=(*COMPARED, "published"), pixelwise=True),
    "w2_1step": Measure("W2, 1 step", LENGTH, "smaller", "w2_floor", "w2", "one_step", COMPARED, pixelwise=True),
    "w2_floor": Measure("W2 floor", LENGTH, "", shown=FLOOR),
    "w2_decoder": Measure("W2 of reconstructions", LENGTH, "smaller", "w2_floor", shown=("metrics",)),
    "w2_reconstructed": Measure(
        "W2 to reconstructions", LENGTH, "smaller", "w2_reconstructed_floor", role="reference", shown=("metrics",)
    ),
    "w2_reconstructed_floor": Measure("W2 floor of reconstructions", LENGTH, "", shown=("metrics",)),
    "straightness": Measure("straightness S", SQUARE, shown=COMPARED),
    "chord_deviation": Measure("chord deviation", LENGTH, shown=RANKED),
    "npe": Measure("NPE", shown=("metrics", "summary", "published")),
    "velocity_error": Measure("field error", shown=("summary",)),
    "nll": Measure("NLL", NATS, "smaller", "nll_floor", shown=(*COMPARED, "densities", "published")),
    "nll_floor": Measure("NLL floor", NATS, "", shown=(*FLOOR, "densities")),
    "bits_per_dim": Measure("bits/dim", "bits", shown=("metrics", "densities", "ranked")),
    "bits_per_dim_train": Measure("bits/dim, training set", "bits", shown=("densities",)),
    "kl": Measure("KL to the truth", NATS, shown=("metrics", "densities", "ranked")),
    "log_prob_rms": Measure("error of log p, rms", NATS, shown=("densities",)),
    "nll_median": Measure("median of -log p", NATS, shown=("densities",)),
    "nll_worst": Measure("largest -log p", NATS, shown=("densities",)),
    "nll_train": Measure("NLL, training set", NATS, shown=("densities",)),
    "nll_validation": Measure("NLL, validation set", NATS),
    "nll_coarse": Measure("NLL, half the steps", NATS, shown=("densities",)),
    "log_prob_error": Measure("error of log p over probes, rms", NATS, shown=("densities",)),
    "elbo": Measure("-ELBO", NATS, "smaller", "elbo_floor", shown=("metrics",)),
    "elbo_floor": Measure("floor of -ELBO", NATS, "", shown=("metrics",)),
    "iw_bound": Measure("importance-weighted bound of NLL", NATS, "smaller", "elbo_floor", shown=("metrics",)),
    "nll_exact": Measure("NLL, latents summed out", NATS, "smaller", "elbo_floor", shown=("metrics",)),
    "nll_exact_coarse": Measure("NLL, latents summed out on half the nodes", NATS, "smaller", "elbo_floor"),
    "rate": Measure("rate", NATS, "", shown=("metrics",)),
    "distortion": Measure("distortion", NATS),
    "codes_used": Measure("share of codes used", "", "larger", shown=("metrics",)),
    "elbo_train": Measure("-ELBO, training set", NATS, "smaller", "elbo_floor", shown=("metrics",)),
    "elbo_error": Measure("standard error of -ELBO", NATS, ""),
    "elbo_error_train": Measure("standard error of -ELBO, training set", NATS, ""),
    "nll_ordered": Measure("NLL, column after column", NATS, "smaller", "nll_floor", shown=("metrics",)),
    "nll_ordered_train": Measure("NLL, column after column, training set", NATS),
    "nll_independent": Measure("NLL of independent columns", NATS, "", shown=("metrics",)),
    "bits_per_token": Measure("NLL a token", "bits", "smaller", "bits_per_token_floor", shown=("metrics",)),
    "bits_per_token_train": Measure("NLL a token, training set", "bits"),
    "bits_per_token_bound": Measure("-ELBO a token", "bits", "smaller", "bits_per_token_floor", shown=("metrics",)),
    "bits_per_token_bound_train": Measure("-ELBO a token, training set", "bits"),
    "bits_per_token_floor": Measure("entropy a token", "bits", "", shown=("metrics",)),
    "in_support": Measure("share in support", "", "larger", "in_support_floor", role="reference", shown=RANKED),
    "in_support_floor": Measure("share of the target in support", "", "", shown=("metrics",)),
    "in_support_independent": Measure("share of independent columns in support", "", "", shown=("metrics",)),
    "cells_tv": Measure("TV over cells", "", "smaller", "cells_tv_floor", role="reference", shown=COMPARED),
    "cells_tv_floor": Measure("TV floor over cells", "", "", shown=FLOOR),
    "cells_tv_independent": Measure("TV of independent columns over cells", "", "", shown=("metrics",)),
    "blocks_tv": Measure("TV over blocks of cells", "", "smaller", "blocks_tv_floor", role="reference", shown=RANKED),
    "blocks_tv_floor": Measure("TV floor over blocks of cells", "", "", shown=FLOOR),
    "blocks_tv_independent": Measure("TV of independent columns over blocks of cells", "", "", shown=("metrics",)),
    "pairs_tv": Measure("TV over pairs of columns", "", "smaller", "pairs_tv_floor", role="reference", shown=COMPARED),
    "pairs_tv_floor": Measure("TV floor over pairs of columns", "", "", shown=FLOOR),
    "pairs_tv_independent": Measure("TV of independent columns over pairs of columns", "", "", shown=("metrics",)),
    "auroc": Measure("AUROC", "", "larger", "auroc_ceiling", shown=("metrics", "outliers", "ranked")),
    "auroc_ceiling": Measure("AUROC ceiling", "", "", shown=("metrics", "outliers")),
    "average_precision": Measure("average precision", "", "larger", "average_precision_ceiling", shown=("outliers",)),
    "average_precision_ceiling": Measure("average precision ceiling", "", "", shown=("outliers",)),
    "accuracy": Measure("accuracy", "", "larger", "accuracy_ceiling", shown=("outliers",)),
    "accuracy_ceiling": Measure("accuracy ceiling", "", "", shown=("outliers",)),
    "auroc_typicality": Measure("AUROC of typicality", "", "larger", shown=("outliers",)),
    "average_precision_typicality": Measure("average precision of typicality", "", "larger"),
    "accuracy_typicality": Measure("accuracy of typicality", "", "larger"),
    "kept": Measure("share rightly kept", "", "larger"),
    "flagged": Measure("share rightly flagged", "", "larger"),
    "kept_typicality": Measure("share rightly kept by typicality", "", "larger"),
    "flagged_typicality": Measure("share rightly flagged by typicality", "", "larger"),
    "jko_energy": Measure("energy of a gradient flow", NATS, "smaller", "jko_energy_exact", shown=("metrics", "compared")),
    "jko_energy_exact": Measure("energy of exact steps", NATS, "", shown=("metrics",)),
    "jko_w2": Measure("W2 of a gradient flow to the test set", LENGTH, "smaller", "jko_w2_floor", shown=("metrics",)),
    "jko_w2_floor": Measure("W2 floor of the test set", LENGTH, "", shown=("metrics",)),
    "jko_w2_exact": Measure(
        "W2 of a gradient flow to exact steps", LENGTH, "smaller", "jko_w2_exact_floor", shown=("metrics", "compared")
    ),
    "jko_w2_exact_floor": Measure("W2 floor of exact steps", LENGTH, "", shown=("metrics",)),
    "jko_modes": Measure("TV over modes", shown=("metrics",)),
    "jko_length": Measure("length of a gradient flow", LENGTH, "", shown=("metrics",)),
    "jko_distance": Measure("W2 from a gradient flow's first law to its last", LENGTH, "", shown=("metrics",)),
    "jko_potential": Measure("correlation of the potential recovered", "", "larger", shown=("metrics",)),
    "modes_covered": Measure("modes covered", "", "larger", "modes_covered_floor", role="reference", shown=("metrics",)),
    "modes_covered_floor": Measure("modes covered by the target", "", "", shown=("metrics",)),
    "modes_valid": Measure("share at a mode", "", "larger", "modes_valid_floor", role="reference", shown=("metrics",)),
    "modes_valid_floor": Measure("share of the target at a mode", "", "", shown=("metrics",)),
    "modes_tv": Measure("TV of draws over modes", "", "smaller", "modes_tv_floor", role="reference", shown=("metrics",)),
    "modes_tv_floor": Measure("TV floor over modes", "", "", shown=("metrics",)),
    "precision": Measure("precision", "", "larger", "precision_floor", role="reference"),
    "precision_floor": Measure("precision of the target", "", ""),
    "recall": Measure("recall", "", "larger", "recall_floor", role="reference"),
    "recall_floor": Measure("recall of the target", "", ""),
    "frechet": Measure("Frechet distance", SEEN, "smaller", "frechet_floor", role="reference", shown=COMPARED),
    "frechet_1step": Measure("Frechet distance, 1 step", SEEN, "smaller", "frechet_floor", "frechet", "one_step", COMPARED),
    "frechet_floor": Measure("Frechet floor", SEEN, "", shown=FLOOR),
    "frechet_decoder": Measure("Frechet distance of reconstructions", SEEN, "smaller", "frechet_floor", shown=("metrics",)),
    "frechet_reconstructed": Measure(
        "Frechet distance to reconstructions",
        SEEN,
        "smaller",
        "frechet_reconstructed_floor",
        role="reference",
        shown=("metrics",),
    ),
    "frechet_reconstructed_floor": Measure("Frechet floor of reconstructions", SEEN, "", shown=("metrics",)),
    "kernel_distance": Measure(
        "kernel distance", "", "smaller", "kernel_distance_floor", role="reference", shown=("metrics",)
    ),
    "kernel_distance_floor": Measure("kernel distance floor", "", "", shown=("metrics",)),
    "feature_precision": Measure("precision among features", "", "larger", "feature_precision_floor", role="reference"),
    "feature_precision_floor": Measure("precision of the target among features", "", ""),
    "feature_recall": Measure("recall among features", "", "larger", "feature_recall_floor", role="reference"),
    "feature_recall_floor": Measure("recall of the target among features", "", ""),
    "judged_accuracy": Measure(
        "share judged of its class", "", "larger", "judged_accuracy_floor", role="reference", shown=RANKED
    ),
    "judged_accuracy_floor": Measure("share of the target judged of its class", "", "", shown=FLOOR),
    "judged_classes": Measure(
        "TV over judged classes", "", "smaller", "judged_classes_floor", role="reference", shown=("metrics",)
    ),
    "judged_classes_floor": Measure("TV floor over judged classes", "", "", shown=("metrics",)),
    "neighbour": Measure(
        "distance to the training set", LENGTH, "", "neighbour_floor", role="reference", shown=("metrics", "summary")
    ),
    "neighbour_floor": Measure("test set to the training set", LENGTH, "", shown=FLOOR),
    "judge_accuracy": Measure("accuracy of a judge", "", "larger", shown=("metrics",)),
    "judge_accuracy_train": Measure("accuracy of a judge, training set", "", "larger", shown=("metrics",)),
    "given_w2": Measure("W2 given the condition", LENGTH, "smaller", "given_w2_floor", role="reference", shown=("metrics",)),
    "given_w2_1step": Measure(
        "W2 given the condition, 1 step", LENGTH, "smaller", "given_w2_floor", "given_w2", "one_step", ("metrics",)
    ),
    "given_w2_floor": Measure("W2 floor given the condition", LENGTH, "", shown=("metrics",)),
    "rollout_share": Measure(
        "roll-outs within the band", "", "larger", "rollout_share_floor", role="reference", shown=("metrics",)
    ),
    "rollout_share_1step": Measure(
        "roll-outs within the band, 1 step", "", "larger", "rollout_share_floor", "rollout_share", "one_step", ("metrics",)
    ),
    "rollout_share_floor": Measure("roll-outs of the system within the band", "", "", shown=("metrics",)),
    "rollout_drift": Measure(
        "energy drift", DEVIATIONS, "smaller", "rollout_drift_floor", role="reference", shown=("metrics",)
    ),
    "rollout_drift_1step": Measure(
        "energy drift, 1 step", DEVIATIONS, "smaller", "rollout_drift_floor", "rollout_drift", "one_step", ("metrics",)
    ),
    "rollout_drift_floor": Measure("energy drift of the system", DEVIATIONS, "", shown=("metrics",)),
    "rollout_w2": Measure(
        "W2 of late states", DEVIATIONS, "smaller", "rollout_w2_floor", role="reference", shown=("metrics",)
    ),
    "rollout_w2_1step": Measure(
        "W2 of late states, 1 step", DEVIATIONS, "smaller", "rollout_w2_floor", "rollout_w2", "one_step", ("metrics",)
    ),
    "rollout_w2_floor": Measure("W2 floor of late states", DEVIATIONS, "", shown=("metrics",)),
    "latent_deviation": Measure("deviation of latents", "", "", shown=("metrics",)),
    "latent_rank": Measure("effective rank of latents", "", "larger", "latent_rank_ceiling", shown=("metrics",)),
    "latent_rank_ceiling": Measure("number of latents", "", "", shown=("metrics",)),
    "sliced_w2": Measure("sliced W2", LENGTH, "smaller", "sliced_w2_floor", role="reference", pixelwise=True),
    "sliced_w2_1step": Measure(
        "sliced W2, 1 step", LENGTH, "smaller", "sliced_w2_floor", "sliced_w2", "one_step", pixelwise=True
    ),
    "sliced_w2_floor": Measure("sliced W2 floor", LENGTH, ""),
    "energy_distance": Measure("energy distance", LENGTH, "smaller", "energy_distance_floor", role="reference"),
    "energy_distance_1step": Measure(
        "energy distance, 1 step", LENGTH, "smaller", "energy_distance_floor", "energy_distance", "one_step"
    ),
    "energy_distance_floor": Measure("energy distance floor", LENGTH, ""),
    "path_energy": Measure("path energy", SQUARE),
    "transport_cost": Measure("transport cost", SQUARE, ""),
    "loss": Measure("loss", floor="loss_floor"),
    "loss_floor": Measure("loss floor", better=""),
}


def measure(name: str) -> Measure:
    """The entry of a measure; what the table does not know is taken from all rows of its name, and better when smaller.

    `w2_after_STEPS` is W2 after so many training steps.
    """
    if name in MEASURES:
        return MEASURES[name]._replace(metric=MEASURES[name].metric or name)
    if name.startswith("w2_after_"):
        return MEASURES["w2"]._replace(title=f"W2 after {name.removeprefix('w2_after_')}", metric=name, role="", shown=())
    return Measure(name, metric=name, better="" if name.endswith(("_floor", "_ceiling")) else "smaller")


def shown_in(place: Place) -> list[str]:
    """The measures that a place shows, in the table's order."""
    return [name for name, of in MEASURES.items() if place in of.shown]


def drawn() -> set[str]:
    """The metrics that every draw has, so that a role tells their rows apart."""
    return {of.metric or name for name, of in MEASURES.items() if of.role}
