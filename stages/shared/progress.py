"""Progress of long work: a bar on a terminal, a plain line now and then otherwise."""

import sys
from collections.abc import Callable

from tqdm import tqdm


def note(title: str, text: str) -> None:
    """A line beside the progress of long work."""
    tqdm.write(f"{title}  {text}", file=sys.stderr)


def progress(title: str, total: int, lines: int = 10) -> Callable[[int, str], None]:
    """A function `(done, note)`: a bar on a terminal, else about `lines` lines."""
    if sys.stderr.isatty():
        bar = tqdm(total=total, desc=title, leave=False)

        def show(done: int, note: str = "") -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        return show
    due = max(1, total // lines)
    printed = 0

    def say(done: int, note: str = "") -> None:
        nonlocal printed
        if done == total or done - printed >= due:
            printed = done
            print(f"{title}  {done}/{total}  {note}".rstrip(), file=sys.stderr, flush=True)

    return say
