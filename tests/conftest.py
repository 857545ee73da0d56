"""What every test starts from: one torch thread, and a generator of its own."""

import os

# Before the first matrix product, as the stages do: see rectiflow.velocities.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Tests share the machine; those about threads ask for more, and this takes them back."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
