"""What a process used: processor time and memory, as the kernel counts them when it ends."""

import os
import subprocess
import sys
from typing import NamedTuple

KIB = 1 if sys.platform == "darwin" else 1024  # bytes of the unit in which the kernel gives a process's peak


class Used(NamedTuple):
    """Seconds of the processor in the program and in the kernel, and the most memory at once in bytes.

    The memory of a forked process has that of the libraries in it, which it shares with those forked beside it.
    """

    user: float = 0.0
    system: float = 0.0
    peak: int = 0

    def then(self, other: "Used") -> "Used":
        """Of two processes, one after the other."""
        return Used(self.user + other.user, self.system + other.system, max(self.peak, other.peak))


def spent(process: "subprocess.Popen[str]") -> tuple[int, Used]:
    """The exit code of a child, -N after signal N, and what it used, those of its children it waited for included."""
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    return process.returncode, Used(used.ru_utime, used.ru_stime, used.ru_maxrss * KIB)
