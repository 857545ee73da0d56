"""Where a training that was killed goes on: its last state in `data/checkpoints/NAME.safetensors`, until it ends.

It is no output of a stage, as DVC removes those before a stage runs. A state is of one training: its key is a digest of all
that its numbers depend on, and a state with another key goes away unread.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rectiflow.digests import digest
from rectiflow.files import replacing, sweep
from rectiflow.resuming import State
from stages.shared import places
from stages.shared.progress import note

EVERY = 60.0  # seconds between two states, so that a short training keeps none; another machine's time changes no number


class Checkpoint:
    """The state of the training NAME, as `training.fit` keeps it."""

    def __init__(self, name: str, key: str) -> None:
        self.path, self.key, self.title = places.checkpoint(name), key, f"train {name}"
        self.every = float(os.environ.get("RECTIFLOW_CHECKPOINT_SECONDS", EVERY))
        self._last = time.monotonic()

    def load(self) -> State | None:
        """The state of a training that was killed."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                spec = json.loads(file.metadata()["spec"])
                told = spec.pop("digest")
                if spec["key"] != self.key:
                    self.end()
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if told != digest(tensors, spec):
                raise ValueError("it is not what was written")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            note(self.title, f"begins anew, as {self.path} is damaged: {error}")
            self.end()
            return None
        note(self.title, f"goes on from step {spec['values']['step']}")
        return State(tensors, spec["values"])

    def offer(self, state: Callable[[], State]) -> None:
        """Keep the state, if the last one is old enough. Where there is no room, the training goes on without."""
        if time.monotonic() - self._last < self.every:
            return
        tensors, values = state()
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        spec: dict[str, Any] = {"key": self.key, "values": values}
        spec["digest"] = digest(tensors, spec)
        try:
            with replacing(self.path) as temporary:
                save_file(tensors, temporary, {"spec": json.dumps(spec)})
        except (OSError, SafetensorError) as error:
            note(self.title, f"no checkpoint: {error}")
        self._last = time.monotonic()

    def end(self) -> None:
        """Nothing is kept any more."""
        with suppress(OSError):  # where nothing could be kept, or those of others are
            self.path.unlink(missing_ok=True)
            sweep(self.path)
            self.path.parent.rmdir()


def key_of(facts: Any, inputs: Iterable[Path]) -> str:
    """A digest of plain values, of files and of all files in folders, and of what computes; not of what does not exist."""
    found = sha256(json.dumps([facts, machine()], sort_keys=True, default=str).encode())
    for path in sorted(set(files(inputs))):
        with open(path, "rb") as file:
            found.update(f"{path} {file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def files(inputs: Iterable[Path]) -> Iterator[Path]:
    """The files among the inputs, and in the folders among them."""
    for path in inputs:
        if path.is_file():
            yield path
        else:
            yield from (part for part in path.glob("*") if part.is_file() and not part.name.startswith("."))


def machine() -> list[Any]:
    """What the last digits of a product depend on beside its operands."""
    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return [torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), devices]
