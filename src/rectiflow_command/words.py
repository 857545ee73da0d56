"""What words of the command have in common: options that name a model and an output, progress, the line of an error."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from stages.shared.params import Refused

Command = Callable[..., Any]


def model(command: Command) -> Command:
    """The argument NAME, and where it is looked for."""
    command = click.option("--rev", metavar="REVISION", help="As this git revision or DVC experiment had it.")(command)
    command = root(command)
    return click.argument("name")(command)


def root(command: Command) -> Command:
    """The option that says which project."""
    return click.option("--root", default=".", type=click.Path(path_type=Path), help="The project's folder.")(command)


def output(said: str, *, required: bool = True) -> Callable[[Command], Command]:
    """The options that say where a result goes, and whether what is there may go."""

    def both(command: Command) -> Command:
        command = click.option("--force", is_flag=True, help="Write anew what is there.")(command)
        place = click.Path(path_type=Path)
        return click.option("-o", "--output", "out", required=required, type=place, metavar="PATH", help=said)(command)

    return both


def passed(command: Command) -> click.Command:
    """A word whose options are those of a program of `flows`, `--help` among them."""
    settings = {"ignore_unknown_options": True, "allow_interspersed_args": False}
    words = click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS]...")
    return click.command(add_help_option=False, context_settings=settings)(words(command))


def served(words: Sequence[str]) -> None:
    """Start the server of a run, unless help is all that is asked for; before Prefect is imported, which takes a second."""
    from flows.running.home import private_server

    if not {"-h", "--help"} & set(words):
        private_server(words)


@contextmanager
def refused(*more: type[Exception]) -> Iterator[None]:
    """What the library finds wrong with a value, and `more` that it may raise, as one line."""
    kinds: tuple[type[Exception], ...] = (ValueError, *more)
    try:
        yield
    except kinds as error:
        raise Refused(str(error)) from error


@contextmanager
def progress(of: int, label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; what it yields is told how many of how many are done."""
    with click.progressbar(length=of, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as shown:
        yield lambda done, _: shown.update(done - shown.pos)
