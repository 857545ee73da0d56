"""A trained model as files for other programs, and a card that says what it is."""

import io
import json
import logging
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pandas as pd

from rectiflow.card import Data, File, Number, card
from rectiflow.exports import FORMATS
from rectiflow.exports.about import about
from rectiflow.files import write_bytes
from rectiflow.origin import Origin
from rectiflow.samplers import Sampler
from rectiflow.saved import condition_spec, content
from rectiflow.statistics import estimate
from rectiflow.trained import Trained
from rectiflow_command.models import MODEL, load, view
from rectiflow_command.words import model, output, refused
from stages.report.results import FLOW, select, title
from stages.shared.measures import MEASURES, shown_in
from stages.shared.params import Refused

KEPT = "safetensors"  # the format that rectiflow itself reads
SUFFIXES = (".onnx", ".pt2", MODEL)
EXAMPLES = Path(__file__).parent / "project"
RESULTS = Path("reports/results.csv")
CONTENTS = {
    "sampler": "x0 -> x1, unrolled, any batch",
    "field": "t, x -> v, any batch",
    "flow": "all weights; rectiflow.load reads it",
}


def numbers(results: pd.DataFrame, facts: Mapping[str, Any]) -> Iterator[Number]:
    """What a project measured of a model: means over seeds with intervals, each beside its floor."""
    of_model = results[(results[FLOW] == [facts[column] for column in FLOW]).all(axis=1)]

    def mean(name: str) -> Any:
        found = select(of_model, name).value.tolist()
        return estimate(found) if found else None

    for name in shown_in("metrics"):
        floor = MEASURES[name].floor
        if not name.endswith("_floor") and (value := mean(name)):
            under = mean(floor) if floor else None
            half = value.half if value.n > 1 else None
            yield Number(title(of_model, name), value.mean, half, value.n, under.mean if under else None)


def measured(root: Path, rev: str | None, facts: Mapping[str, Any]) -> list[Number]:
    """The numbers of a project's model, where its report has some."""
    with view(root, rev) as project:
        text = project.text(RESULTS)
    return [] if text is None else list(numbers(pd.read_csv(io.StringIO(text), keep_default_na=False), facts))


def revision(root: Path) -> str | None:
    """The commit that a project is at, and whether it was edited since; none outside of git."""
    words = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty= with edits"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


NAMES = ("name", "dataset", "method", "round", "rounds")  # of what is known of a model
DRAWN = ("sampler", "evaluations", "x0", "x1", "t", "x", "v", "c")  # what concerns a file that draws


def facts_of(trained: Trained, sampler: Sampler, evaluations: int) -> dict[str, str]:
    """What a model is, by name, and how it is drawn from, where there are `evaluations`."""
    said = about(trained.model, sampler, trained.origin.units, evaluations)
    if not evaluations:
        said = {key: value for key, value in said.items() if key not in DRAWN}
    known = {key: str(trained.facts[key]) for key in NAMES if key in trained.facts}
    return {**known, "seeds": ", ".join(map(str, trained.seeds)), **said}


def source(trained: Trained) -> str:
    """Where x0 is drawn from, in words."""
    origin = trained.origin
    if origin.given:
        return "the rows of a table"
    if origin.vocabulary:
        return "uniform tokens"
    return "N(0, I)" if origin.source is None else f"the source of {json.dumps(dict(origin.source))}"


def data(trained: Trained) -> Data:
    """What its rows are."""
    columns = [name if width == 1 else f"{name}[{width}]" for name, width in trained.origin.columns]
    shape = trained.origin.shape if len(trained.origin.shape) > 1 else ()
    scaled = trained.origin.units is not None
    units = "own units in the files; distances under Numbers are of scaled rows" if scaled else None
    asked = asked_for(trained.origin)
    return Data(columns, shape, units, source(trained), [*map(str, trained.origin.classes)], asked.get("condition"))


def asked_for(origin: Origin) -> dict[str, str]:
    """What a conditional model may be asked for: its classes in order, the names and units of the numbers of a condition."""
    known = {"classes": origin.classes, "condition": origin.condition and condition_spec(origin.condition)}
    return {name: json.dumps(value) for name, value in known.items() if value}


def files(trained: Trained, kind: str, sampler: Sampler) -> tuple[dict[str, bytes], dict[str, float], int]:
    """A format's files by name, how far each is from the model, and the evaluations of the sampler."""
    if kind == KEPT:
        return {"flow.safetensors": content(trained)}, {}, 0
    facts = {name: str(value) for name, value in trained.facts.items() if name in ("name", "revision")}
    facts |= {"source": source(trained), **asked_for(trained.origin)}
    found = FORMATS[kind](trained.model.seed(0), sampler, trained.origin.units, facts)
    return found.files, found.differences, found.evaluations


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch says of itself while it exports."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@click.command()
@model
@click.option(
    "--format", "kind", type=click.Choice([*FORMATS, KEPT]), default="onnx", show_default=True, help="What to write."
)
@click.option("--steps", type=int, help="How many steps the unrolled sampler takes; 1 by default.")
@click.option("--sampler", metavar="NAME", help="How to draw: a solver of fixed steps, jumps or once.")
@click.option("--guidance", type=float, metavar="SCALE", help="How far the sampler goes beyond its class: 1 is none.")
@click.option("--of", "seed", type=int, metavar="SEED", help="Weights of this seed; by default of the first.")
@click.option("--licence", help="What the card says of the terms.")
@output("The folder that the files and CARD.md go into.")
def command(
    name: str, root: Path, rev: str | None, kind: str, steps: int | None, sampler: str | None,
    guidance: float | None, seed: int | None, licence: str | None, out: Path, force: bool,
) -> None:  # fmt: skip
    """Write a trained model as files that need no rectiflow, in the rows' own units, with a card.

    onnx and torch hold a sampler of fixed steps, unrolled, and the field of a flow; both are checked against the model
    before they are written. Those of a conditional model take what it is asked for as the input c. safetensors holds all
    that rectiflow needs to go on with the model anywhere.

    \b
    Examples:
      rectiflow export moons-otcfm-round1 --steps 1 -o exported
      rectiflow export faithful-otcfm-round0 --format torch --steps 10 -o exported
      rectiflow export moons-otcfm-round1 --format safetensors -o kept
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        raise Refused(f"{out} exists and is not empty; --force writes into it")
    trained = load(name, root, rev)
    with refused(ArithmeticError), quiet():
        one = trained.of(trained.seeds[0] if seed is None else seed)
        how = one.sampler(1 if steps is None and sampler is None else steps, sampler, guidance)
        written, differences, evaluations = files(trained if kind == KEPT else one, kind, how)
    mine = "dataset" in trained.facts and not name.endswith(MODEL)
    page = card(
        trained.facts.get("name", Path(name).stem),
        what=facts_of(trained if kind == KEPT else one, how, evaluations),
        data=data(one),
        numbers=measured(root, rev, trained.facts) if mine else [],
        files=[File(file, CONTENTS[Path(file).stem], differences.get(file)) for file in written],
        params=json.dumps(trained.facts["row"]) if "row" in trained.facts else None,
        revision=trained.facts.get("revision", revision(root)) if mine else None,
        licence=licence,
        example=None if kind == KEPT else (EXAMPLES / f"load_{kind}.txt").read_text(),
    )
    for old in (out / f"{part}{suffix}" for part in CONTENTS for suffix in SUFFIXES):
        old.unlink(missing_ok=True)  # of another model, or another format
    for file, found in {**written, "CARD.md": page.encode()}.items():
        write_bytes(out / file, found)
    click.echo(f"{', '.join([*written, 'CARD.md'])} in {out}")
