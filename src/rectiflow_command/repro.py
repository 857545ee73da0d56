"""Stages brought up to date, side by side."""

from rectiflow_command.words import passed, served


@passed
def command(words: tuple[str, ...]) -> int:
    """Bring stages up to date: what a change touches, and no other. `rectiflow repro --help` lists all options.

    \b
    Examples:
      rectiflow repro
      rectiflow repro --root experiments/one_step
      rectiflow repro train sample@moons-icfm-round0 --workers 4
      rectiflow repro --runner slurm
    """
    served(words)
    from flows.repro import main

    return main([*words], "rectiflow repro")
