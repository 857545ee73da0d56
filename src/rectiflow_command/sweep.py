"""Experiments over a grid of parameters."""

from rectiflow_command.words import passed


@passed
def command(words: tuple[str, ...]) -> int:
    """Run an experiment for each combination of values, in clones of their own. `rectiflow sweep --help` lists all options.

    \b
    Examples:
      rectiflow sweep 'training.lr=[0.004, 0.012]' 'methods=[icfm, otcfm]' --rounds 1
    """
    from flows.running.home import private_server  # before Prefect is imported, which takes a second

    if not {"-h", "--help"} & set(words):
        private_server(words)
    from flows.sweep import main

    return main([*words], "rectiflow sweep")
