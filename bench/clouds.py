"""What both sides work on, from numpy alone: point clouds, and files of arrays."""

from pathlib import Path

import numpy as np

Cloud = np.ndarray


def clouds(n: int, dim: int, seed: int = 0) -> tuple[Cloud, Cloud]:
    """Two clouds of n points: in the plane eight Gaussians and two moons, elsewhere a Gaussian and ten clusters."""
    draw = np.random.default_rng(seed)
    if dim == 2:
        return eight_gaussians(n, draw), moons(n, draw)
    centres = draw.standard_normal((10, dim))
    return draw.standard_normal((n, dim)), centres[draw.integers(10, size=n)] + 0.3 * draw.standard_normal((n, dim))


def eight_gaussians(n: int, draw: np.random.Generator) -> Cloud:
    angles = draw.integers(8, size=n) * np.pi / 4
    return 5 * np.stack([np.cos(angles), np.sin(angles)], 1) + np.sqrt(0.1) * draw.standard_normal((n, 2))


def moons(n: int, draw: np.random.Generator) -> Cloud:
    angles, lower = np.pi * draw.random(n), draw.random(n)[:, None] < 0.5
    upper = np.stack([np.cos(angles), np.sin(angles)], 1)
    return 3 * (np.where(lower, [1, 0.5] - upper, upper) + 0.2 * draw.standard_normal((n, 2))) - 1


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, in the order they were written."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def read_problems(path: str | Path) -> list[tuple[Cloud, Cloud]]:
    """Pairs of clouds: the arrays of a file, two and two."""
    arrays = list(read_arrays(path).values())
    return list(zip(arrays[::2], arrays[1::2], strict=True))
