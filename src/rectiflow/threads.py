"""How many threads torch computes on for a while."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
_INSIDE: list[int] = []  # what was before, once for each block that is open


@contextmanager
def threads(n: int) -> Iterator[None]:
    """torch computes on n threads within the block, and as before when the last of several that overlap is left. Products
    are summed in another order on more of them, and small networks take longer.
    """
    with _LOCK:
        _INSIDE.append(torch.get_num_threads())
        torch.set_num_threads(n)
    try:
        yield
    finally:
        with _LOCK:
            before = _INSIDE[0]
            _INSIDE.pop()
            if not _INSIDE:
                torch.set_num_threads(before)
