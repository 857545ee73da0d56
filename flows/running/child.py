"""Commands that die with their parent: `tied` says how to start one, `python child.py PARENT COMMAND ...` becomes it.

The kernel sends the signal whatever ended the parent, SIGKILL included. Other systems than Linux have no such call: there
the command lives on, and finishes or fails by itself.
"""

import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tied(words: Sequence[str]) -> list[str]:
    """The words that start a command which this process does not leave behind, however it ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *words]


def bind(parent: int) -> None:
    """Tie this process to its parent, or end it if that has gone already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


if __name__ == "__main__":
    command = sys.argv[2:]
    bind(int(sys.argv[1]))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
