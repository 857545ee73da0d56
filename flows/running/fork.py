"""The process that stages are forked from: `python -P fork.py`, a socket as its input, becomes it.

`flows.running.warm` asks it. It imports what is installed and takes long, and never the project: a forked process imports
that as it lies on disk, from the folder and the PYTHONPATH it is given, and goes on as `python -m MODULE` does. So this is
a script, outside any package.
What Python and the libraries read of the environment when they start (PYTHONHASHSEED, OMP_NUM_THREADS) they have read here,
and a forked process keeps it whatever it is given; what they read at first use (MKL_CBWR) is the forked one's own.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module, invalidate_caches
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, NoReturn

LIBRARIES = (
    "torch", "pandas", "pyarrow.parquet", "scipy.spatial", "scipy.sparse", "scipy.special", "lap", "ot", "pydantic",
    "ruamel.yaml", "safetensors.numpy", "tqdm",
)  # fmt: skip
LONGEST = 2**20  # bytes of a request: a command and its environment


def serve(requests: socket.socket, bind: Callable[[int], None]) -> dict[str, Any] | None:
    """Fork for every request, and tell what each process used and how it ended. In a forked process: its request; here
    None, at the end.
    """
    running: dict[int, tuple[int, int]] = {}
    me = os.getpid()
    with DefaultSelector() as selector:
        selector.register(requests, EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    pid, status = running.pop(key.fd)
                    selector.unregister(key.fd)
                    _, code, used = os.wait4(pid, 0)
                    tell(status, "used", used.ru_utime, used.ru_stime, used.ru_maxrss)
                    tell(status, "exit", os.waitstatus_to_exitcode(code))
                    close(status, key.fd)
                    continue
                message, (*descriptors,), *_ = socket.recv_fds(requests, LONGEST, 2)
                if not message:
                    return None
                try:
                    out, status = descriptors
                    pid = os.fork()
                except (OSError, ValueError):  # no more processes or files: who asked reads the end of its pipe
                    close(*descriptors)
                    continue
                if not pid:
                    for watched, (_, other) in running.items():
                        close(watched, other)
                    requests.close()
                    begin(me, bind, out, status)
                    return json.loads(message)
                os.close(out)
                try:
                    watched = os.pidfd_open(pid)
                except OSError:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    os.close(status)
                    continue
                running[watched] = pid, status
                selector.register(watched, EVENT_READ)


def tell(status: int, what: str, *numbers: float) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more
        os.write(status, f"{what} {' '.join(map(str, numbers))}\n".encode())


def close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def begin(parent: int, bind: Callable[[int], None], out: int, status: int) -> None:
    """Leave the first process's session and files, and say who this is."""
    os.setsid()
    bind(parent)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, standard in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(ours, standard)
    tell(status, "pid", os.getpid())
    close(nothing, out, status)


def enter(request: Mapping[str, Any], installed: Sequence[str]) -> None:
    """Take on the folder, the environment and the path of `python -m MODULE`."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    given = os.environ.get("PYTHONPATH", "")
    sys.path[:] = [os.getcwd(), *map(os.path.abspath, filter(None, given.split(os.pathsep))), *installed]
    sys.argv[:] = [request["module"], *request["arguments"]]
    Path("/proc/self/comm").write_text(request["module"])  # what ps and top show
    invalidate_caches()


def run(module: str) -> int:
    """The module to its end; its exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as wanted:
        if wanted.code is None or isinstance(wanted.code, int):
            return wanted.code or 0
        print(wanted.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  as Python does
        sys.excepthook(*sys.exc_info())
    else:
        return 0
    return 1


def end(code: int) -> NoReturn:
    """What Python does at its end, but for taking apart everything that was imported: that takes 0.3 s, torch most of it."""
    threading._shutdown()  # type: ignore[attr-defined]  # Python's own, which it calls before the functions of `atexit`
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    given = {os.path.abspath(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    installed = [part for part in sys.path if os.path.abspath(part) not in given]
    for name in LIBRARIES:
        with suppress(ImportError):  # the stage that needs it says so
            import_module(name)
    gc.freeze()  # what is shared stays shared
    # Python warns of forks beside threads. These are the idle ones of OpenBLAS, which ends them before a fork.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    bind = runpy.run_path(str(Path(__file__).with_name("child.py")))["bind"]  # now: the file may change under a run
    if request := serve(socket.socket(fileno=os.dup(0)), bind):
        enter(request, installed)
        end(run(request["module"]))


if __name__ == "__main__":
    main()
