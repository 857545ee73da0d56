"""Where and how wide a stage computes: the `compute` section."""

from typing import Literal

import torch
from pydantic import Field

from stages.settings import Refused, Settings, load


class Compute(Settings):
    """`device` auto takes the GPU if there is one; `threads` is the number of CPU threads of one stage."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(ge=1)


def prepare() -> tuple[torch.device, int]:
    """Set up torch for one stage, from `params.yaml`: device and threads."""
    settings = load(Compute, "compute")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise Refused("params.yaml: compute.device: 'cuda': torch finds no GPU; use auto or cpu")
    torch.set_num_threads(settings.threads)
    use_gpu = settings.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu"), settings.threads
