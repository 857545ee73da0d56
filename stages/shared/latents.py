"""Latents as a data set: rows of `latents` in `params.yaml`, and of `encoded` and `decoded` in `grid.yaml`."""

from stages.shared.params import Settings


class Latents(Settings):
    """The latents that a `method` of the grid, a bottleneck, makes of a `dataset` are a data set. What a flow draws of them
    is decoded, with the decoder's `noise` around its means, or without.
    """

    dataset: str
    method: str
    noise: bool = False


class Encoded(Settings):
    """Latents of a data set by a trained `bottleneck`; what its model and network are called."""

    dataset: str
    bottleneck: str
    model: str
    network: str


class Decoded(Encoded):
    """The draws of a `flow` of latents, brought back to the data set; in the report they are those of a `method` and a
    `round`.
    """

    method: str
    round: int
    flow: str
    noise: bool
