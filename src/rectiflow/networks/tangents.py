"""Derivatives of a perceptron along directions, in forward mode, with a graph and without.

torch's own forward mode costs 4 ms a call before it computes anything, ten times what a small network takes.
"""

import torch
from torch import Tensor

from rectiflow.networks.activations import Activation

COLUMNS = 1000  # values and derivatives of so many points stay in the cache


def tangents(weights: list[Tensor], activation: Activation, columns: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs `(seeds, outputs, batch)` for columns `(seeds, inputs, batch)`, and their derivatives along directions
    `(k, seeds, inputs, batch)`, `(k, seeds, outputs, batch)`, of layers whose weights and biases alternate.

    Values and derivatives pass the layers together, seed after seed: without a graph two directions cost 2.4 times what the
    values alone do.
    """
    if torch.is_grad_enabled():
        return _with_a_graph(weights, activation, columns, directions)
    with torch.no_grad():
        together = torch.cat([columns[None], directions]).transpose(0, 1)
        seeds = []
        for k, mine in enumerate(together):
            layers = [weight[k].mT for weight in weights]
            parts = [_through(layers, part, activation) for part in mine.split(COLUMNS, -1)]
            seeds.append(torch.cat(parts, -1))
        found = torch.stack(seeds, 1)
    return found[0], found[1:]


def _with_a_graph(
    weights: list[Tensor], activation: Activation, columns: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """The same by operations that have derivatives of every kind."""
    seeds = []
    for k in range(len(columns)):
        h, along = columns[k], directions[:, k]
        for i in range(0, len(weights), 2):
            a, along = torch.addmm(weights[i + 1][k].mT, weights[i][k].mT, h), torch.matmul(weights[i][k].mT, along)
            last = i + 2 == len(weights)
            h, along = (a, along) if last else (activation.plain(a), activation.plain_slope(a) * along)
        seeds.append((h, along))
    values, found = zip(*seeds, strict=True)
    return torch.stack(values), torch.stack(found, 1)


def _through(layers: list[Tensor], h: Tensor, activation: Activation) -> Tensor:
    """A value, which comes first, and its derivatives `(1 + k, inputs, batch)` behind all layers."""
    for i in range(0, len(layers), 2):
        a = torch.matmul(layers[i], h)
        a[0] += layers[i + 1]
        h = _activated(activation, a) if i + 2 < len(layers) else a
    return h


def _activated(activation: Activation, a: Tensor) -> Tensor:
    h = torch.empty_like(a)
    activation.forward(a[:1], h[:1])
    kept = h if activation.by_value else a
    for j in range(1, len(a)):
        activation.backward(a[j : j + 1], kept[:1], h[j : j + 1])
    return h
