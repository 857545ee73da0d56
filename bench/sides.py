"""One side of a comparison: its processes, and how fast they do a piece of work together."""

import json
import os
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).resolve().parent.parent
Work = tuple[str, dict[str, Any]]  # a function of a side, and its options


class Mode(NamedTuple):
    """How a side uses the machine: so many processes at once, each with so many threads."""

    processes: int
    threads: int


ALONE, THREADS, TWO = Mode(1, 1), Mode(1, 2), Mode(2, 1)


class Rate(NamedTuple):
    """Amount of work a second, what was found, and in how many evaluations."""

    rate: float
    found: float | None
    nfe: int | None


class Process:
    """A worker that waits for requests."""

    def __init__(self, python: Path, module: str) -> None:
        self.name, command = module, [str(python), "-m", "bench.worker", module]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT / "src")}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe)
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, work: Work, threads: int) -> None:
        with suppress(BrokenPipeError):  # `answer` says so
            self.stdin.write(json.dumps({"call": work[0], "options": work[1], "threads": threads}) + "\n")
            self.stdin.flush()

    def answer(self, work: Work) -> dict[str, Any]:
        line = self.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} ended at {work[0]} {work[1]}; what it printed is above")
        return json.loads(line)


class Side:
    """One side's two processes."""

    def __init__(self, python: Path, module: str) -> None:
        self.processes = [Process(python, module) for _ in range(TWO.processes)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for process in self.processes:
                stack.enter_context(process)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def do(self, work: Work, mode: Mode = ALONE) -> Rate:
        """The work, once in every process of the mode, at once."""
        asked = self.processes[: mode.processes]
        for process in asked:
            process.ask(work, mode.threads)
        answers = [process.answer(work) for process in asked]
        rate = sum(answer["amount"] for answer in answers) / max(answer["seconds"] for answer in answers)
        return Rate(rate, answers[0]["found"], answers[0]["nfe"])
