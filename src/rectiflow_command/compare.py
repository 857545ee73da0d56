"""Numbers of commits, side by side."""

from rectiflow_command.words import passed


@passed
def command(words: tuple[str, ...]) -> None:
    """Compare the numbers of commits and experiments, seed by seed. `rectiflow compare --help` lists all options.

    \b
    Examples:
      rectiflow compare HEAD~1
      rectiflow compare main quick-otter workspace --metrics w2,nll
    """
    from flows.compare import main  # Prefect takes a second, and is not needed to say what this word does

    return main([*words], "rectiflow compare")
