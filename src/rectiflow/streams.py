"""Random streams: one for each purpose and seed, so that no draws are those of another."""

from hashlib import sha256

from torch import Generator


def stream(purpose: str, seed: int) -> Generator:
    """A generator that depends on the purpose and the seed alone."""
    digest = sha256(f"{purpose}/{seed}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:7], "big"))
