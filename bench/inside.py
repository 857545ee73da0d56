"""`python -m bench.inside`: seconds that a project's stages spend between reading and writing, imports done before."""

import os
import shlex
import sys
import time
from importlib import import_module
from pathlib import Path

from flows.running.pipeline import Pipeline
from stages.shared.start import run


def timed(module: str, args: list[str]) -> float:
    """Seconds of a stage in a process forked for it."""
    read, write = os.pipe()
    if pid := os.fork():
        os.close(write)
        with open(read) as answer:
            seconds = answer.read()
        if os.waitpid(pid, 0)[1]:
            raise SystemExit(f"error: {module} {' '.join(args)} failed; what it printed is above")
        return float(seconds)
    sys.argv[1:] = args
    begin = time.perf_counter()
    run(import_module(module).main)
    os.write(write, str(time.perf_counter() - begin).encode())
    os._exit(0)


def main() -> None:
    commands = [shlex.split(stage.cmd)[2:] for stage in Pipeline(Path()).stages.values()]
    for module in {words[0] for words in commands}:
        import_module(module)
    sys.stdout.flush()
    print(sum(timed(module, args) for module, *args in commands))


if __name__ == "__main__":
    main()
