"""What every test starts from: one torch thread, and a generator of its own."""

import os

# Before the first matrix product, as the stages do: see rectiflow.networks.mlp.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")

import pytest
import torch

# Two files run side by side; those of minutes go first, so that none is left over for the end.
LONG = [
    f"test_{name}.py"
    for name in ("repro_flow", "browser", "containers", "cluster", "queues", "pipeline", "exercises", "sweep", "kills", "ui")
]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def _one_thread():
    """Tests share the machine; those about threads ask for more, and this takes them back."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
