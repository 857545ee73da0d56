"""How a stage starts and fails."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from stages.shared.kernels import settle
from stages.shared.params import Refused

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_memory() -> None:
    """Keep what is freed for what is asked for next.

    glibc gives blocks from 128 KiB on back to the system, and each of their pages costs a fault when it is asked for again:
    without this a flow is sampled at 12 thousand points a second and a third of the time is the system's; with it, at 20.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the most there is
        mallopt(M_TRIM_THRESHOLD, 2**30)


def give_back() -> None:
    """Give back at once what is freed: for a stage that holds a table as large as can be, and few large blocks beside it.

    glibc keeps blocks of every size that was freed once, up to 32 MiB.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**20)
        mallopt(M_TRIM_THRESHOLD, 2**20)


def trim() -> None:
    """Give back once what was freed until now: the parts that a large table was read in, which nothing fits into later."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def run(main: Callable[[list[str]], None]) -> None:
    """Run a stage: bad input and numerical failure end in one line on stderr and exit code 1."""
    # What was imported lives as long as the process; scanning it at every collection and at exit costs 0.7 s a stage.
    gc.freeze()
    gc.enable()
    settle()
    try:
        main(sys.argv[1:])
    except (Refused, ArithmeticError, OSError) as error:
        missing = " does not exist; an earlier stage makes it" if isinstance(error, FileNotFoundError) else ""
        print(f"error: {' '.join(str(error).split())}{missing}", file=sys.stderr)
        sys.stdout.flush()
        sys.exit(1)
    except KeyboardInterrupt:
        os._exit(130)
