"""Stages' commands as processes: their output line by line, and none left when the flow ends, however it ends."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

from dvc.stage import Stage
from dvc.stage.run import prepare_kwargs

from flows.running.child import tied
from flows.running.used import Used, spent
from flows.running.warm import SUPPORTED, WARM, Ended, Process

SHELL = set("|&;<>()$`*?\n")


class CommandFailed(RuntimeError):
    """A stage's command ended with an exit code other than zero; the message has its last line."""


def arguments(command: str) -> list[str]:
    """The words of a command. Raises CommandFailed where it would take a shell to understand it."""
    if found := sorted(SHELL & set(command)):
        raise CommandFailed(f"{command!r}: flows start commands without a shell; put what needs {found[0]!r} into a script")
    return shlex.split(command)


Running = subprocess.Popen[str] | Process
EVERY: "weakref.WeakSet[Commands]" = weakref.WeakSet()


def kill_all() -> None:
    """End the commands of every run in this process."""
    for commands in list(EVERY):
        commands.kill()


class Commands:
    """Runs commands and remembers which are running, so that `kill` ends them all."""

    def __init__(self) -> None:
        self._running: set[Running] = set()
        self._lock, self._closed = threading.Lock(), False
        EVERY.add(self)

    def run(self, stage: Stage, say: Callable[[str], None], environment: Mapping[str, str] | None = None) -> Used:
        """Run a stage's command to its end, `say` receiving each line it prints, and say what it used.

        Raises CommandFailed.
        """
        used = Used()
        place = prepare_kwargs(stage)
        # DVC's `python` is this one, whether or not the environment is activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), place["env"].get("PATH", "")])
        env = {**place["env"], "PATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})}
        for line in stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]:
            try:
                used = used.then(self._run(line, arguments(line), say, cwd=place["cwd"], env=env))
            except Ended as error:
                self.check()
                raise CommandFailed(f"{line}: {error}") from error
        return used

    def _run(self, line: str, words: list[str], say: Callable[[str], None], cwd: str, env: Mapping[str, str]) -> Used:
        last = ""
        with self._lock:
            self.check()
            process = _start(words, cwd, env)
            self._running.add(process)
        try:
            for text in process.stdout or ():
                last = text.rstrip() or last
                say(text.rstrip())
            code, used = waited(process)
        finally:
            _kill(process)
            self._running.discard(process)
        if code:
            self.check()
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            raise CommandFailed(f"{line}: {how}" + (f": {last}" if last else ""))
        return used

    def kill(self) -> None:
        """End everything that runs, and let nothing start any more."""
        with self._lock:
            self._closed = True
            for process in list(self._running):
                _kill(process)

    def check(self) -> None:
        """Raise CommandFailed if `kill` was called."""
        if self._closed:
            raise CommandFailed("the run was stopped")


def _start(words: list[str], cwd: str, env: Mapping[str, str]) -> Running:
    """A command at its start, in a session of its own."""
    match words:
        case ["python", "-m", module, *rest] if SUPPORTED:
            return WARM.start(module, rest, cwd, env)
    return subprocess.Popen(
        tied(words), cwd=cwd, env=env, text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def waited(process: Running) -> tuple[int, Used]:
    """The exit code of a command, -N after signal N, and what it used."""
    return (process.wait(), process.used) if isinstance(process, Process) else spent(process)


def _kill(process: Running) -> None:
    """The command and whatever it started and left: each has a process group of its own."""
    if process.pid <= 1:  # to the kernel that would be every process there is
        raise ValueError(f"pid {process.pid} is no command's")
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
