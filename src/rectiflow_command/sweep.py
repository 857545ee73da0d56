"""Experiments over a grid of parameters."""

from rectiflow_command.words import passed, served


@passed
def command(words: tuple[str, ...]) -> int:
    """Run an experiment for each combination of values, in clones of their own. `rectiflow sweep --help` lists all options.

    \b
    Examples:
      rectiflow sweep 'training.lr=[0.004, 0.012]' 'methods=[icfm, otcfm]' --rounds 1
    """
    served(words)
    from flows.sweep import main

    return main([*words], "rectiflow sweep")
