"""One side's process: `python -m bench.worker MODULE`. It does what its input asks for and prints how long that took.

A request is a line `{"call": NAME, "options": {...}, "threads": N}`; NAME is a function of MODULE that prepares the work
and returns it as a call, which alone is timed and returns how much it did. The answer is `{"seconds": s, "amount": n}`.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch


def main(module: str) -> None:
    works = import_module(module)
    prepared: dict[str, Callable[[], float]] = {}
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        torch.set_num_threads(request["threads"])
        key = json.dumps([request["call"], request["options"]])
        if key not in prepared:
            prepared[key] = getattr(works, request["call"])(**request["options"])
        begin = time.perf_counter()
        amount = prepared[key]()
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "amount": amount}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
