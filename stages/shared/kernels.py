"""Which of torch's kernels compute: those that every processor of its kind has."""

import os
from pathlib import Path

PROCESSORS = Path("/proc/cpuinfo")


def settle() -> None:
    """Leave out the kernels for AVX-512, unless the environment says otherwise: they sum in blocks of another size, and the
    last digits of some trained weights with them. torch asks when it first computes.
    """
    if PROCESSORS.exists() and "avx512f" in PROCESSORS.read_text("utf-8", "replace"):
        os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
