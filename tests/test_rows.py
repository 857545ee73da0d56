"""Places in a table stand for the rows that they name, to the bit, and take no more than the table."""

from functools import partial

import pytest
import torch

from rectiflow.models.coupling_layers import CouplingLayers
from rectiflow.models.frame import Frame
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.cnf import Cnf
from rectiflow.objectives.consistency import Consistency
from rectiflow.objectives.distil import Distil
from rectiflow.objectives.likelihood import Likelihood
from rectiflow.objectives.matching import Matching
from rectiflow.objectives.meanflow import MeanFlow
from rectiflow.pairs import Pairs, Points
from rectiflow.rows import Rows
from rectiflow.training import Training, fit

NETWORK = partial(MLP, width=16, depth=2)


@pytest.fixture(params=["one table", "a table a seed", "bytes"])
def rows(request, generator):
    """Places of three seeds in a table of 50 rows, and the rows themselves."""
    table = torch.randn(50, 4, generator=generator)
    if request.param == "bytes":
        table = torch.randint(0, 256, (50, 4), generator=generator, dtype=torch.uint8)
    if request.param == "a table a seed":
        table = torch.randn(3, 50, 4, generator=generator)
    places = torch.randint(50, (3, 70), generator=generator)
    whole = torch.stack([(table if table.ndim == 2 else table[k])[places[k]].float() for k in range(3)])
    return Rows(table, places), whole


def test_rows_are_indexed_as_the_tensor_that_they_stand_for(rows, generator):
    rows, whole = rows
    numbers = torch.randint(70, (5, 6), generator=generator)
    assert (rows.shape, rows.dtype, rows.device, len(rows)) == (whole.shape, whole.dtype, whole.device, len(whole))
    assert torch.equal(rows[:], whole)
    assert torch.equal(rows[:, :9], whole[:, :9])
    assert torch.equal(rows[1:, 3:9], whole[1:, 3:9])
    for one, of_seed in zip(rows.unbind(), whole.unbind(), strict=True):
        assert one.shape == of_seed.shape
        assert torch.equal(one[:], of_seed)
        assert torch.equal(one[numbers], of_seed[numbers])


def test_places_among_places_are_places_in_the_same_table(rows, generator):
    rows, whole = rows
    numbers = torch.randint(70, (3, 20), generator=generator)
    again = Rows.of(rows, numbers)
    assert again.table is rows.table
    for found in (again, Rows.of(whole, numbers)):
        assert torch.equal(found[:], whole.gather(1, numbers[..., None].expand(-1, -1, 4)))


def test_the_units_of_rows_are_those_of_all_seeds_together(rows):
    rows, whole = rows
    x0 = torch.randn(whole.shape)
    for found, both, move in ((Frame.of(x0, rows), torch.cat([x0, whole], 1), whole - x0),
                              (Frame.around(rows), torch.cat([whole, whole], 1), torch.ones_like(whole))):  # fmt: skip
        assert torch.equal(found.shift, torch.stack([part.mean(0, keepdim=True) for part in both]))
        squares = [(part - part.mean(0)).square().mean() for part in both]
        assert torch.equal(found.scale.flatten(), torch.stack(squares).sqrt())
        assert torch.equal(found.speed.flatten(), torch.stack([part.square().mean() for part in move]).sqrt())


@pytest.mark.parametrize(
    "objective",
    [Matching(NETWORK), Matching(NETWORK, prediction="data"), Distil(NETWORK), MeanFlow(NETWORK), Consistency(NETWORK),
     Cnf(NETWORK), Likelihood(NETWORK, partial(CouplingLayers.begin, layers=2))],
    ids=lambda objective: type(objective).__name__,
)  # fmt: skip
def test_a_model_trained_on_places_is_that_of_the_rows(objective, rows):
    found = []
    for x in rows:
        data = Points(x) if objective.data is Points else Pairs(x, x)
        streams = [torch.Generator().manual_seed(k) for k in range(3)]
        found.append(fit(objective, data, data, streams, Training(steps=8, batch=10, warmup=0, log_every=4)))
    (ours, curves), (theirs, same) = found
    assert all(torch.equal(part, theirs.weights[name]) for name, part in ours.weights.items())
    assert torch.equal(curves.training, same.training)
    assert torch.equal(curves.validation, same.validation)
