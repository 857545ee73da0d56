"""Experiments over a grid of parameters."""

from rectiflow_command.words import passed


@passed
def command(words: tuple[str, ...]) -> int:
    """Run an experiment for each combination of values, in clones of their own. `rectiflow sweep --help` lists all options.

    \b
    Examples:
      rectiflow sweep 'training.lr=[0.004, 0.012]' 'methods=[icfm, otcfm]' --rounds 1
    """
    from flows.sweep import main  # Prefect takes a second, and is not needed to say what this word does

    return main([*words], "rectiflow sweep")
