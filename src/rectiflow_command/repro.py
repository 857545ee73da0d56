"""Stages brought up to date, side by side."""

from rectiflow_command.words import passed


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
    from flows.repro import main  # Prefect takes a second, and is not needed to say what this word does

    return main([*words], "rectiflow repro")
