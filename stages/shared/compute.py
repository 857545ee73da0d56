"""Where and how wide a stage computes, and its random streams."""

import os

import torch

from rectiflow.streams import stream
from stages.shared.params import Refused, load
from stages.shared.rows import Compute
from stages.shared.start import keep_memory

__all__ = ["prepare", "stream"]


def prepare() -> torch.device:
    """Set up one stage, from `params.yaml`: its memory, torch's threads and the device to use."""
    settings = load(Compute, "compute")
    keep_memory()
    # MKL's small products round by where in memory their operands lie, and where seed k lies depends on how many seeds there
    # are. Read at its first call; ignored by processors and builds that do not know it.
    os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise Refused("params.yaml: compute.device: 'cuda': torch finds no GPU; use auto or cpu")
    torch.set_num_threads(settings.threads)
    use_gpu = settings.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")
