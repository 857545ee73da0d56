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

    Without a graph values and derivatives pass the layers together, in one product a layer, seed after seed: two directions
    cost three times what the values alone do.
    """
    if torch.is_grad_enabled():
        return _with_a_graph(weights, activation, columns, directions)
    with torch.no_grad():
        together = torch.cat([columns[None], directions]).permute(1, 2, 0, 3)  # one wide product takes them all
        seeds = []
        for k, mine in enumerate(together):
            layers = [weight[k].mT.contiguous() for weight in weights]
            seeds.append(torch.cat([_through(layers, part, activation) for part in mine.split(COLUMNS, -1)], -1))
        found = torch.stack(seeds).movedim(2, 0)
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
    """A value, which comes first, and its derivatives `(inputs, 1 + k, batch)` behind all layers."""
    for i in range(0, len(layers), 2):
        a = torch.mm(layers[i], h.flatten(1)).unflatten(1, h.shape[1:])
        a[:, 0] += layers[i + 1]
        if i + 2 < len(layers):
            _activate(activation, a[:, 0][None], a[:, 1:])
        h = a
    return h


def _activate(activation: Activation, value: Tensor, along: Tensor) -> None:
    """In place: a layer's values become those behind the activation, its derivatives are multiplied by the slope there."""
    slope = torch.ones_like(value)
    if activation.by_value:
        activation.forward(value, value)
        activation.backward(slope, value, slope)
    else:
        activation.backward(slope, value, slope)
        activation.forward(value, value)
    along *= slope[0][:, None]
