"""Where every artifact lies, relative to the project: one function a path, and the names of the markers."""

from pathlib import Path

DATA = Path("data")
ENDED = "ended"  # a file in place of a round that was not worth it: see stages.rectify
PROGRESS = "progress.parquet"  # what the rounds until then were like


# ---- Data sets


def generated(dataset: str) -> Path:
    """The folder of a data set."""
    return DATA / "generate" / dataset


def points(dataset: str) -> Path:
    """The points of the sides that are drawn."""
    return generated(dataset) / "points.parquet"


def table(dataset: str, side: str) -> Path:
    """The finite table that a side is taken from, once."""
    return generated(dataset) / f"{side}.parquet"


def rows(dataset: str) -> Path:
    """The row numbers of the splits of finite tables."""
    return generated(dataset) / "rows.parquet"


def oracle(dataset: str) -> Path:
    """The closed form of a data set, if it has one."""
    return generated(dataset) / "oracle.parquet"


def about(dataset: str) -> Path:
    """What is known of a data set: shape, classes, entropy."""
    return generated(dataset) / "about.json"


def floor(dataset: str) -> Path:
    """What all models of a data set are measured against."""
    return DATA / "floor" / f"{dataset}.parquet"


# ---- Pairs


def couple(name: str) -> Path:
    """The folder of a coupling's pairs."""
    return DATA / "couple" / name


def reflow(name: str) -> Path:
    """The folder of the pairs that an earlier round drew."""
    return DATA / "reflow" / name


def pairs(place: str) -> Path:
    """The pairs at a row's `data`: `couple/NAME` or `reflow/NAME`."""
    return DATA / place / "pairs.parquet"


# ---- Models


def trained(name: str) -> Path:
    """The folder of a trained model, or of a choice."""
    return DATA / "train" / name


def model(folder: Path) -> Path:
    """The weights in the folder of a trained model, or of a round that continues it."""
    return folder / "model.safetensors"


def kept(name: str) -> Path:
    """The weights that a training kept along the way."""
    return trained(name) / "history.safetensors"


def curves(name: str) -> Path:
    """The loss curves of a training."""
    return trained(name) / "curves.parquet"


def checkpoint(name: str) -> Path:
    """The last state of a training that has not ended; no output, and so not in its folder."""
    return DATA / "checkpoints" / f"{name}.safetensors"


def choice(name: str) -> Path:
    """What a choice picked."""
    return trained(name) / "choice.json"


def evidence(name: str) -> Path:
    """What a choice rests on."""
    return trained(name) / "evidence.parquet"


# ---- Draws and measurements


def sampled(name: str) -> Path:
    """The folder of a model's draws."""
    return DATA / "sample" / name


def samples(name: str) -> Path:
    """The draws of every sampler."""
    return sampled(name) / "samples.parquet"


def reconstructions(name: str) -> Path:
    """What a bottleneck makes of real points, beside draws that it decodes."""
    return sampled(name) / "reconstructions.parquet"


def trajectories(name: str) -> Path:
    """The states of the reference solve of a velocity field."""
    return sampled(name) / "trajectories.parquet"


def states(name: str) -> Path:
    """The states of rows of tokens on their way, by the reference sampler."""
    return sampled(name) / "states.parquet"


def field(name: str) -> Path:
    """A velocity field beside the closed form."""
    return sampled(name) / "field.parquet"


def history(name: str) -> Path:
    """The draws after so many training steps."""
    return sampled(name) / "history.parquet"


def density(name: str) -> Path:
    """The folder of what is known of a model's density."""
    return DATA / "evaluate" / "density" / name  # below a folder that is there in any case: the report depends on it


def scores(name: str) -> Path:
    """The log density of single points, split by split."""
    return density(name) / "points.parquet"


def density_map(name: str) -> Path:
    """The log density over the plane."""
    return density(name) / "map.parquet"


def density_measures(name: str) -> Path:
    """The measurements of a density."""
    return density(name) / "measures.parquet"


def baseline(dataset: str, baseline: str) -> Path:
    """The measurements of a baseline of a data set."""
    return DATA / "evaluate" / "baseline" / dataset / f"{baseline}.parquet"


def evaluated(name: str) -> Path:
    """The measurements of a model, or of a relation."""
    return DATA / "evaluate" / f"{name}.parquet"
