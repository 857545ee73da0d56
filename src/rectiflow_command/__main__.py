"""The command `rectiflow`: one word for each thing to do. What a word needs is imported when it is said."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

try:
    import click
except ModuleNotFoundError:  # the library came without what the command needs
    sys.exit("error: the command needs more than the library: pip install 'rectiflow[pipeline]'")

from stages.shared.kernels import settle

WORDS: Mapping[str, tuple[str, str]] = {  # a module that has a click command, and what it does
    "new": ("rectiflow_command.new", "Make a project of your own."),
    "check": ("rectiflow_command.check", "Is params.yaml right?"),
    "repro": ("rectiflow_command.repro", "Bring stages up to date."),
    "list": ("rectiflow_command.listing", "What is trained, where, and its numbers."),
    "compare": ("rectiflow_command.compare", "Numbers of commits, side by side."),
    "sweep": ("rectiflow_command.sweep", "Experiments over a grid of parameters."),
    "ui": ("rectiflow_command.ui", "Start or end Prefect's UI."),
    "graph": ("rectiflow_command.graph", "The stages of the project and what they need."),
    "sample": ("rectiflow_command.sample", "Draw rows from a trained model."),
    "export": ("rectiflow_command.export", "Write a trained model for other programs."),
    "score": ("rectiflow_command.score", "Score rows by a trained density."),
    "why": ("rectiflow_command.why", "What the next run would do, and why."),
    "verify": ("rectiflow_command.verify", "Read every artifact and take away what is damaged."),
}


ELSEWHERE = {"prefect": "flows", "onnx": "export", "onnxruntime": "export", "onnxscript": "export"}  # extras by module


class Words(click.Group):
    """Commands that are imported on use, so that `--help` takes no longer than it must."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(WORDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in WORDS:
            return None
        found: click.Command = import_module(WORDS[cmd_name][0]).command
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in WORDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], WORDS, 1) or [*WORDS]
            raise click.UsageError(f"there is no {args[0]!r}; there is {', '.join(close)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in WORDS.items()])


@click.command(
    cls=Words, no_args_is_help=False, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.pass_context
def rectiflow(context: click.Context) -> None:
    """Reproducible flow-matching experiments.

    Shell completion: `eval "$(_RECTIFLOW_COMPLETE=bash_source rectiflow)"`, likewise for zsh and fish.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> int:
    """Run the command; whatever is wrong is one line, and the exit code not 0."""
    sys.path.insert(0, str(Path.cwd()))  # a project's own stages before those that are installed
    settle()
    try:
        code = rectiflow.main(prog_name="rectiflow", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.Abort:
        print("error: stopped", file=sys.stderr)
        return 130
    except click.ClickException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not expected(error):
            raise
        print("error:", *str(error).split(), file=sys.stderr)
        return 1


def expected(error: Exception) -> bool:
    """Whether it tells of something wrong with the input, the project or the disk, and not with this code."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in ELSEWHERE:
        error.msg = f"this needs {error.name}: pip install 'rectiflow[{ELSEWHERE[(error.name or '').split('.')[0]]}]'"
        return True
    from dvc.exceptions import DvcException  # a second that `--help` need not take

    from stages.shared.params import Refused

    return isinstance(error, Refused | DvcException | OSError)


if __name__ == "__main__":
    sys.exit(main())
