"""The reference, written from the code while the pages are built: a page for each public module, the keys of `params.yaml`
with the names that may stand there, the words of the command.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import click
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from rectiflow.baselines import BASELINES
from rectiflow.datasets import DATASETS, pictured, tokens
from rectiflow.games import GAMES
from rectiflow.gradient_flows import SCHEMES
from rectiflow.gradient_flows.energies import ENERGIES
from rectiflow.gradient_flows.recovery import Recovery
from rectiflow.interpolants import INTERPOLANTS
from rectiflow.kappas import KAPPAS
from rectiflow.likelihood import DIVERGENCES
from rectiflow.models import MODELS
from rectiflow.models.transforms import TRANSFORMS
from rectiflow.networks import NETWORKS
from rectiflow.objectives import OBJECTIVES
from rectiflow.outliers import OUTLIERS
from rectiflow.predictions import PREDICTIONS
from rectiflow.samplers import SAMPLERS
from rectiflow.training import Training
from rectiflow.transport.couplings import COUPLINGS
from rectiflow_command.__main__ import rectiflow
from stages.bound import Measured as Bound
from stages.check.params import Params
from stages.couple import Pairing
from stages.density import Measured as Density
from stages.features import Among
from stages.generate import Seeds
from stages.modes import Near
from stages.reflow import Reflow
from stages.report.studies.kinds import STUDIES
from stages.sample import Sample
from stages.shared.blocks import Block
from stages.shared.ingest import Table
from stages.shared.judges import Asked, Judge
from stages.shared.latents import Latents
from stages.shared.movements import GradientFlow
from stages.shared.objectives import GIVEN, SIZES
from stages.shared.rows import Choice, Compute, Relation, Workers
from stages.shared.splits import Sizes
from stages.shared.studies import Claim, Published, Study
from stages.shared.teachers import Keys
from stages.tokens import Measured as Tokens

API, PARAMETERS, COMMAND = "reference/python", "reference/parameters.md", "reference/command.md"


class Part(NamedTuple):
    """What a section of `params.yaml` may hold: keys of its own, and objects by name with their options. `given` are those
    that the program supplies.
    """

    keys: tuple[type[BaseModel], ...] = ()
    tables: Mapping[str, Mapping[str, Any]] = {}
    given: tuple[str, ...] = ()


SECTIONS = {
    "seeds": Part((Seeds,)),
    "compute": Part((Compute,)),
    "workers": Part((Workers,)),
    "datasets": Part((Sizes,), {"name": {name: call for name, call in DATASETS.items() if name != "parquet"}}),
    "tables": Part(
        (Table,),
        {
            "besides": {
                "every table of numbers": DATASETS["parquet"],
                "every table of images": pictured,
                "every table of tokens": tokens,
            }
        },
    ),
    "latents": Part((Latents,)),
    "couplings": Part((Pairing,), {"name": COUPLINGS}),
    "network": Part((), {"name": NETWORKS}, SIZES),
    "training": Part((), {"besides": {"every training": Training}}),
    "methods": Part(
        (Keys,),
        {
            "objective": OBJECTIVES,
            "model.name": MODELS,
            "model.kappa.name": KAPPAS,
            "model.transform.name": TRANSFORMS,
            "interpolant.name": INTERPOLANTS,
            "prediction": PREDICTIONS,
            "game.name": GAMES,
        },
        (*GIVEN, "model", "teacher"),
    ),
    "reflow": Part((Reflow,)),
    "sample": Part((Sample,)),
    "samplers": Part((), {"name": SAMPLERS}),
    "density": Part((Density,), {"divergence.name": DIVERGENCES, "outliers.name": OUTLIERS}),
    "baselines": Part((), {"name": BASELINES}),
    "grid": Part((Block, Near, Bound, Asked, Among, Tokens)),
    "choices": Part((Choice,)),
    "relations": Part((Relation,)),
    "gradient_flows": Part(
        (GradientFlow,), {"energy.name": ENERGIES, "scheme.name": SCHEMES, "recover": {"every recovery": Recovery}}
    ),
    "judges": Part((Judge,)),
    "studies": Part((Study, Published, Claim), {"kind": STUDIES}),
}


def on_config(config: Any) -> Any:
    """The pages of the modules take their place in the navigation."""
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    reference[-1] = {"Python": [{name: place(name)} for name in modules(Path(config.config_file_path).parent)]}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages."""
    names = modules(Path(config.config_file_path).parent)
    pages = {place(name): f"# {name}\n\n::: {name}\n    options: {{show_root_heading: false}}\n" for name in names}
    pages[PARAMETERS] = "\n".join(parameters())
    pages[COMMAND] = "\n".join(command())
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def modules(root: Path) -> list[str]:
    """The public modules of the library."""
    paths = sorted((root / "src/rectiflow").rglob("*.py"))
    names = [".".join(path.relative_to(root / "src").with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


def place(module: str) -> str:
    """Where the page of a module is."""
    return f"{API}/{module}.md"


def command() -> Iterator[str]:
    """The command with all its words: what each says of itself, its usage, its options."""
    yield "# The command\n"
    yield from word(click.Context(rectiflow, info_name="rectiflow", **rectiflow.context_settings), 2)


def word(context: click.Context, level: int) -> Iterator[str]:
    """One word, and those below it."""
    found = context.command
    yield f"{'#' * level} {context.command_path}\n"
    for part in inspect.cleandoc(found.help or "").split("\n\n"):
        verbatim = part.startswith("\b")
        yield "```text\n" + part.removeprefix("\b").strip("\n") + "\n```\n" if verbatim else f"{part}\n"
    yield "```text\n" + found.get_usage(context).removeprefix("Usage: ") + "\n```\n"
    rows = [record for one in found.get_params(context) if (record := one.get_help_record(context))]
    yield "| option | |\n| --- | --- |"
    yield from (f"| {code(option)} | {said.replace('|', '&#124;')} |" for option, said in rows)
    yield ""
    if isinstance(found, click.Group):
        for name in found.list_commands(context):
            below = found.get_command(context, name)
            assert below is not None
            yield from word(click.Context(below, context, name), level + (context.parent is not None))


def parameters() -> Iterator[str]:
    """Every section of `params.yaml`: its keys, and the names that may stand in it with their options."""
    if different := set(SECTIONS) ^ set(Params.model_fields):
        raise KeyError(f"sections of params.yaml and of this page differ by {', '.join(sorted(different))}")
    yield "# Parameters\n"
    yield "The sections of `params.yaml` in order. This page is written from the code that reads them, so that it has every"
    yield "key, every name and every default. A key without a default must be given where its section or its row is."
    yield "`make check` says in one line what is wrong with an edit. [Names](names.md) lists what each name means.\n"
    for section, part in SECTIONS.items():
        yield f"## {section}\n"
        for model in part.keys:
            yield from keys(model)
        for key, table in part.tables.items():
            yield from names(key, table, part.given)


def keys(model: type[BaseModel]) -> Iterator[str]:
    """The keys of a section, or of its rows."""
    yield f"{prose(model)}\n\n| key | is | default |\n| --- | --- | --- |"
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        yield row(
            field.alias or name, kind_of(get_type_hints(model)[name], field.metadata), shown(default, PydanticUndefined)
        )
    yield ""


def names(key: str, table: Mapping[str, Any], given: tuple[str, ...]) -> Iterator[str]:
    """What may stand at a key, with the options of each."""
    yield f"{code(key)}:\n" if key != "besides" else ""
    yield "| name | options | is |\n| --- | --- | --- |"
    for name in table:
        thing = table[name]
        options = ", ".join(options_of(thing, given)) if callable(thing) else ""
        yield f"| `{name}` | {options} | {prose(thing).replace('|', '&#124;') if callable(thing) else ''} |"
    yield ""


def options_of(call: Callable[..., Any], given: tuple[str, ...]) -> Iterator[str]:
    """The options of a function, its keyword-only arguments, or of a class, all but what is given; with their defaults."""
    for name, option in inspect.signature(call).parameters.items():
        if name in given or name in ("network", "weights", "frame"):
            continue
        if isinstance(call, type) or option.kind is inspect.Parameter.KEYWORD_ONLY:
            default = shown(option.default, inspect.Parameter.empty)
            yield f"`{name}`" + (f" = {default}" if default else "")


def prose(thing: Any) -> str:
    """The first paragraph of a docstring in one line, its formulas as they are."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def row(name: str, kind: str, default: str) -> str:
    return f"| `{name}` | {kind} | {default} |"


def kind_of(hint: Any, bounds: Sequence[Any]) -> str:
    """A type as one writes it, the choices where there are some, and the range."""
    if get_origin(hint) is Literal:
        return ", ".join(map(code, get_args(hint)))
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    for module in ("typing.", "collections.abc.", "stages.shared.studies.", "stages.shared.movements."):
        text = text.replace(module, "")
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "of length at least"}
    said = [f"{signs[name]} {getattr(bound, name)}" for bound in bounds for name in signs if hasattr(bound, name)]
    return ", ".join([code(text), *said])


def code(text: str) -> str:
    """As code in a cell of a table."""
    return f"<code>{escape(text).replace('|', '&#124;')}</code>"


def shown(value: Any, nothing: Any) -> str:
    """A default, empty where there is none."""
    return "" if value is nothing else code(repr(value))
