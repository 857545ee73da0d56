"""Prefect's UI for a project."""

from rectiflow_command.words import passed


@passed
def command(words: tuple[str, ...]) -> int:
    """Start or end Prefect's UI for this project, or a worker. `rectiflow ui --help` lists all options.

    \b
    Examples:
      rectiflow ui start
      rectiflow ui start --port 4300 --keep 7
      rectiflow ui stop
    """
    from flows.ui import main  # Prefect takes a second, and is not needed to say what this word does

    return main([*words], "rectiflow ui")
