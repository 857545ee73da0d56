"""Digests of named tensors and what stands beside them."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor


def digest(tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> str:
    """Of all tensors, which are on the CPU, and of their description in plain values."""
    found = sha256(json.dumps(spec, sort_keys=True).encode())
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
