"""Processes of `python -m MODULE` without the wait for imports: forked from one process that has imported the libraries.

`import torch` takes 1.1 to 2.4 s, and most stages compute for less. The first process is `fork.py`; it ends with this one,
and those that it forked with it. Asking is a message on a socket with two pipes: one for what the module prints, one for
the number of its process, what it used and its exit code.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from flows.running.child import tied
from flows.running.fork import LONGEST
from flows.running.used import KIB, Used


def supported() -> bool:
    """Linux, from 5.3 on: elsewhere libraries do not promise to work after a fork, or a process cannot be waited for so."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


SUPPORTED = supported()


class Ended(RuntimeError):
    """The first process is gone, and with it those that it forked."""


class Process:
    """A forked process, with the part of `subprocess.Popen` that its user needs. It leads a session of its own."""

    def __init__(self, stdout: TextIO, status: TextIO) -> None:
        self.stdout, self._status = stdout, status
        self.pid, self.used = int(self._told("pid")[0]), Used()

    def wait(self) -> int:
        """The exit code; -N after signal N. Then `used` is what the process used."""
        user, system, peak = self._told("used")
        self.used = Used(float(user), float(system), int(peak) * KIB)
        return int(self._told("exit")[0])

    def _told(self, expected: str) -> list[str]:
        what, *numbers = self._status.readline().split()[:4] or [""]
        if what != expected:  # the end of the pipe; or, for a number, the end of a process that did not begin
            raise Ended("the process that stages are forked from has ended, or could not start this one")
        return numbers


class Warm:
    """The first process. It starts when it is first asked for something."""

    def __init__(self) -> None:
        self._lock, self._started = threading.Lock(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, module: str, arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> Process:
        """`python -m MODULE ARGUMENT ...` in a folder and an environment. Raises Ended."""
        request = json.dumps({"module": module, "arguments": [*arguments], "cwd": str(cwd), "env": dict(env)}).encode()
        (stdout, out), (status, said) = os.pipe(), os.pipe()
        reads = open(stdout, errors="replace"), open(status)
        try:
            socket.send_fds(self._reached(), [request], [out, said])
        except OSError as error:
            raise Ended(f"the process that stages are forked from cannot be asked: {error}") from error
        finally:
            for descriptor in (out, said):
                os.close(descriptor)
        return Process(*reads)

    def _reached(self) -> socket.socket:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._started.clear()
                # The kernel ends a child with the thread that started it. Stages come from threads that may not stay.
                threading.Thread(target=self._keep, daemon=True).start()
                self._started.wait()
                if self._process is None:
                    raise Ended("the process that stages are forked from cannot be started")
            return self._ours

    def _keep(self) -> None:
        self._process = None
        try:
            process = self._begun()
        finally:
            self._started.set()  # whoever waits must not wait for what failed
        process.wait()

    def _begun(self) -> "subprocess.Popen[bytes]":
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
        command = tied([sys.executable, "-P", str(Path(__file__).with_name("fork.py"))])
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # how modules print is decided where Python starts
        self._process = process = subprocess.Popen(command, env=env, stdin=theirs.fileno(), start_new_session=True)
        theirs.close()
        return process


WARM = Warm()
