"""Conditions: exact conditional fields and guidance, what a network learns of classes, couplings that do not tell them, and
labels on real files from pairs to draws.
"""

import sys
from functools import partial

import numpy as np
import pytest
import tiny
import torch
from torch import Generator

from rectiflow.guidance import Guidance
from rectiflow.interpolants import Linear
from rectiflow.mixtures import GaussianMixture, Marginal, normal
from rectiflow.models.conditional import Conditional
from rectiflow.models.guided import Guided
from rectiflow.models.record import put_together, taken_apart
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.matching import Matching
from rectiflow.pairs import Pairs, Points
from rectiflow.samplers import SAMPLERS, sample, transport
from rectiflow.solvers import SOLVERS
from rectiflow.training import Training, fit
from rectiflow.transport.couplings import exact, independent, minibatch
from rectiflow_command.models import load
from stages.check.whole import check
from stages.shared.io import read_table
from stages.shared.params import Refused

MEANS = torch.tensor([[-2.0, 0.0], [1.0, 2.0], [1.0, -2.0]])
STDS = torch.tensor([0.3, 0.5, 0.4])
WEIGHTS = torch.tensor([0.5, 0.25, 0.25])
WHOLE = GaussianMixture(WEIGHTS, MEANS, STDS)
PARTS = [GaussianMixture(torch.ones(1), MEANS[k : k + 1], STDS[k : k + 1]) for k in range(3)]


class Exact:
    """The conditional field of the mixture with its components as classes, in closed form."""

    path = Linear()
    dropout = 0.5

    def __call__(self, t, x, c=None):
        if c is None:
            return Marginal(self.path, normal(2), WHOLE)(t, x)
        fields = torch.stack([Marginal(self.path, normal(2), part)(t, x) for part in PARTS], -1)
        return (fields * c[..., None, :]).sum(-1)

    def plain(self):
        return self


def draws(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the mixture and their components."""
    generator = Generator().manual_seed(seed)
    label = torch.multinomial(WEIGHTS, n, replacement=True, generator=generator)
    return MEANS[label] + STDS[label, None] * torch.randn(n, 2, generator=generator), label.int()


def data(n: int, seeds: list[int]) -> Pairs:
    x1, label = (torch.stack(part) for part in zip(*(draws(n, 100 + seed) for seed in seeds), strict=True))
    x0 = torch.stack([torch.randn(n, 2, generator=Generator().manual_seed(200 + seed)) for seed in seeds])
    return Pairs(x0, x1, label, classes=3)


def objective(**options) -> Matching:
    return Matching(partial(MLP, width=64, depth=3), model=partial(Conditional.begin, **options))


@pytest.fixture(scope="module")
def trained():
    """A model of two seeds."""
    options = Training(steps=1500, batch=256, log_every=500)
    rows = data(8000, [0, 1])
    return fit(objective(dropout=0.2), rows, data(500, [7, 8]), [Generator().manual_seed(k) for k in (0, 1)], options)[0]


def one_hot(label: torch.Tensor) -> torch.Tensor:
    given = Points(torch.zeros(*label.shape, 2), label, classes=3).given()
    assert given is not None
    return given


def test_the_mean_of_the_conditional_fields_is_the_field_of_all():
    """`v(t, x) = E[v(t, x, c) | xt = x]`, with the classes' shares at x."""
    generator = Generator().manual_seed(0)
    t, x = torch.rand(1, 500, generator=generator).double(), 2 * torch.randn(1, 500, 2, generator=generator).double()
    laws = [Marginal(Linear(), normal(2), part).log_prob(t, x) + WEIGHTS[k].log() for k, part in enumerate(PARTS)]
    shares = torch.stack(laws, -1).softmax(-1)
    assert torch.allclose(Exact()(t, x, shares), Exact()(t, x), atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_exact_guidance_has_the_slopes_and_the_ends_it_should(scale):
    """Scale 0 is the field of all, 1 the class's own, whose draws have its mean and deviation; 2 goes beyond both."""
    n, k = 4000, 1
    x0 = torch.randn(1, n, 2, generator=Generator().manual_seed(3))
    field = Guided(Exact(), one_hot(torch.full((1, n), k)), scale)
    end = SOLVERS["rk4"](steps=50)(field, x0).end[0]
    if scale == 0:
        assert torch.allclose(end.mean(0), (WEIGHTS[:, None] * MEANS).sum(0), atol=0.1)
    elif scale == 1:
        assert torch.allclose(end.mean(0), MEANS[k], atol=4 * float(STDS[k]) / n**0.5)
        assert torch.allclose(end.std(0), STDS[k].expand(2), rtol=0.05)
    else:
        assert ((end - MEANS[k]) @ (MEANS[k] - MEANS[[0, 2]].mean(0))).mean() > 0
    point, step = torch.tensor([[[0.3, -0.4]]]), 1e-3
    here = Guided(Exact(), one_hot(torch.tensor([[k]])), scale)
    t, along = torch.tensor(0.6), torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    v, found = here.slopes(t, point, along)
    assert torch.allclose(v, here(t, point))
    central = (here(t, point + step * along[:, 0]) - here(t, point - step * along[:, 0])) / (2 * step)
    assert torch.allclose(found[:, 0], central, atol=2e-3)


def test_a_trained_field_is_that_of_each_class_and_without_one_that_of_all(trained):
    generator, n = Generator().manual_seed(5), 4000
    x1, label = draws(n, 9)
    x0, t = torch.randn(n, 2, generator=generator), 0.05 + 0.9 * torch.rand(n, generator=generator)
    xt = ((1 - t)[:, None] * x0 + t[:, None] * x1).expand(2, n, 2)
    c, times = one_hot(label.expand(2, n)), t.expand(2, n)
    for given, most in ((c, 0.02), (None, 0.05)):
        v, right = trained(times, xt, given), Exact()(times, xt, given)
        error = (v - right).square().sum((1, 2)) / right.square().sum((1, 2))
        assert error.max() < most
    twice = Guided(trained, c, 2.0)(times, xt)
    right = Guided(Exact(), c, 2.0)(times, xt)
    assert (twice - right).square().sum() / right.square().sum() < 0.08


def test_draws_have_the_law_of_the_class_that_was_asked_for(trained):
    n = 3000
    x0 = torch.randn(2, n, 2, generator=Generator().manual_seed(6))
    label = (torch.arange(n) % 3).expand(2, n)
    end = transport(trained, SAMPLERS["rk4"](steps=20), x0, [None, None], one_hot(label))
    for k in range(3):
        mine = end[:, label[0] == k]
        assert torch.allclose(mine.mean(1), MEANS[k].expand(2, 2), atol=0.1)
        assert torch.allclose(mine.std(1), STDS[k].expand(2, 2), rtol=0.25)


def test_guidance_counts_what_it_asks_and_scale_one_is_none(trained):
    x0, given = torch.randn(2, 50, 2), one_hot(torch.zeros(2, 50))
    plain, one, two = (
        sample(trained, sampler, x0, [None, None], given=given)[1]
        for sampler in (SAMPLERS["euler"](steps=8), Guidance(steps=8, scale=1.0), Guidance(steps=8, scale=2.0))
    )
    assert torch.equal(plain.end, one.end)
    assert not torch.allclose(plain.end, two.end)
    assert (plain.nfe, one.nfe, two.nfe) == (8, 8, 16)
    bare = fit(objective(dropout=0.0), data(100, [0]), data(10, [1]), [Generator().manual_seed(0)], Training(steps=2))[0]
    with pytest.raises(ValueError, match="dropout of 0"):
        sample(bare, Guidance(), x0[:1], [None], given=given[:1])


def test_a_seed_learns_the_same_alone_and_a_file_gives_it_back():
    options, both = Training(steps=30, batch=64, log_every=10), data(500, [0, 1])
    held = data(50, [2, 3])
    together, _ = fit(objective(), both, held, [Generator().manual_seed(k) for k in (0, 1)], options)
    one = Pairs(both.x0[1:], both.x1[1:], both.label[1:], classes=3)
    less = Pairs(held.x0[1:], held.x1[1:], held.label[1:], classes=3)
    alone, _ = fit(objective(), one, less, [Generator().manual_seed(1)], options)
    assert torch.equal(alone.theta[0], together.theta[1])
    again = put_together(*taken_apart(together))
    x, t, c = torch.randn(2, 9, 2), torch.rand(2, 9), one_hot(torch.ones(2, 9))
    assert torch.equal(again(t, x, c), together(t, x, c))
    assert torch.equal(again(t, x), together(t, x))


def test_a_vector_is_a_condition_too():
    """x1 = c + noise: draws given c are around c, for c that were not in training."""
    n = 6000
    generator = Generator().manual_seed(0)
    c = torch.randn(1, n, 1, generator=generator)
    x1 = torch.cat([2 * c, -c], -1) + 0.2 * torch.randn(1, n, 2, generator=generator)
    x0 = torch.randn(1, n, 2, generator=generator)
    rows = Pairs(x0[:, 500:], x1[:, 500:], condition=c[:, 500:])
    held = Pairs(x0[:, :500], x1[:, :500], condition=c[:, :500])
    model, _ = fit(objective(), rows, held, [Generator().manual_seed(1)], Training(steps=1000, batch=256, log_every=500))
    wanted = torch.linspace(-1.5, 1.5, 7).repeat_interleave(400)[None, :, None]
    given = Points(torch.zeros(1, 2800, 2), condition=wanted).given()
    x = transport(model, SAMPLERS["rk4"](steps=20), torch.randn(1, 2800, 2, generator=generator), [None], given)
    means = x.reshape(7, 400, 2).mean(1)
    assert torch.allclose(means, torch.stack([2 * wanted[0, ::400, 0], -wanted[0, ::400, 0]], -1), atol=0.15)
    assert torch.allclose(x.reshape(7, 400, 2).std(1), torch.tensor(0.2), atol=0.12)


def leak(x0: np.ndarray, label: np.ndarray, seed: int = 0) -> float:
    """The share of random relabellings whose means of x0 by class are as far apart as these."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(label)

    def apart(of: np.ndarray) -> float:
        means = np.stack([np.bincount(of, x0[:, j]) / counts for j in range(x0.shape[1])], 1)
        return float((counts[:, None] * means**2).sum())

    seen = apart(label)
    return float(np.mean([apart(rng.permutation(label)) >= seen for _ in range(300)]))


@pytest.mark.parametrize(("coupling", "by_class", "leaks"), [(independent, False, 0), (exact, True, 0), (exact, False, 1)])
def test_a_permutation_test_finds_a_leak_of_plans_across_classes_alone(coupling, by_class, leaks):
    x1, label = draws(1500, 3)
    x0 = torch.randn(3000, 2, generator=Generator().manual_seed(4))
    i, j = minibatch(coupling, x0, x1, Generator().manual_seed(5), 250, 2, label if by_class else None)
    assert torch.equal(j.sort().values, torch.arange(1500).repeat_interleave(2))
    assert torch.equal(i.sort().values, torch.arange(3000))
    share = leak(x0[i].numpy(), label[j].numpy())
    assert share < 0.01 if leaks else share > 0.02
    if by_class:  # and each class is coupled well
        cost = (x0[i] - x1[j]).square().sum(1).mean()
        apart = torch.stack([(x0[:1000] - MEANS[k]).square().sum(1).mean() for k in range(3)])
        assert cost < (WEIGHTS * apart).sum()


CLASSES = """
seeds: [0, 3]
compute: {device: cpu, threads: 1}
workers: 2
datasets:
  digits: {name: digits, validation: 100, test: 200, pool: 1500}
tables: {}
latents:
  codes: {dataset: digits, method: vae}
couplings:
  exact: {name: exact, pairs: 1400, batch: 64, by_class: true}
  independent: {name: independent, pairs: 1400}
network: {name: mlp, width: 64, depth: 2}
training: {steps: 400, batch: 128, log_every: 100, warmup: 5}
methods:
  guided: {coupling: exact, interpolant: {name: linear}, model: {name: conditional, dropout: 0.2}}
  free: {coupling: independent, interpolant: {name: linear}}
  vae: {objective: elbo, model: {name: autoencoder, latent: 6, deviation: 0.4}}
reflow: {pairs: 1200, validation: 100, sampler: {name: euler, steps: 10}}
sample:
  samplers: [{name: euler, steps: 1}, {name: euler, steps: 10}, {name: once}, {name: guided, steps: 10, scale: 2.0}]
  trajectory_steps: 10
  trajectory_points: 20
samplers: {}
density: {solver: {name: rk4, steps: 4}, divergence: {name: exact}, train: 30, map: 9}
baselines: {}
grid:
  pixels: {datasets: [digits], methods: [guided], rounds: 1}
  plain: {datasets: [digits], methods: [free, vae]}
  latents: {datasets: [codes], methods: [guided]}
choices: {}
relations: {}
studies: {}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tiny.computed(tmp_path_factory, CLASSES)


def nearest(x: np.ndarray, known: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The class whose mean is nearest."""
    means = np.stack([known[label == k].mean(0) for k in range(10)])
    return ((x[:, None] - means) ** 2).sum(-1).argmin(1)


def test_labels_survive_couple_reflow_and_sample(project, monkeypatch):
    """Pairs carry the class of their x1, those that a flow draws that which it was asked for, and so do its draws."""
    monkeypatch.chdir(project)
    table, rows = (read_table(project / f"data/generate/digits/{name}.parquet") for name in ("target", "rows"))
    known, label = table["x"], table["label"]
    pairs = read_table(project / "data/reflow/digits-guided-round1/pairs.parquet")
    assert set(pairs["label"]) == set(range(10))
    right = nearest(pairs["x1"], known, label) == pairs["label"]
    assert right.mean() > 0.25  # of draws without their class a tenth would be
    assert leak(pairs["x0"].astype(np.float64), pairs["label"]) > 0.02
    for round_ in (0, 1):
        drawn = read_table(project / f"data/sample/digits-guided-round{round_}/samples.parquet")
        for seed in (0, 3):
            asked = label[rows["row"][(rows["seed"] == seed) & (rows["side"] == "target") & (rows["split"] == "test")]]
            for draw in np.unique(drawn["draw"]):
                of = (drawn["seed"] == seed) & (drawn["draw"] == draw)
                assert np.array_equal(drawn["label"][of], asked)
                assert (nearest(drawn["x"][of], known, label) == asked).mean() > 0.25
    assert "label" not in read_table(project / "data/sample/digits-free-round0/samples.parquet")


def test_guided_draws_and_latents_with_classes_are_there(project):
    drawn = read_table(project / "data/sample/digits-guided-round0/samples.parquet", solver="euler(guidance 2)")
    assert drawn["nfe"].tolist() == [20] * 400
    codes = read_table(project / "data/generate/codes/points.parquet", side="target", split="test", seed=3)
    digits = read_table(project / "data/generate/digits/rows.parquet", side="target", split="test", seed=3)
    label = read_table(project / "data/generate/digits/target.parquet")["label"]
    assert np.array_equal(codes["label"], label[digits["row"]])
    assert "label" in read_table(project / "data/sample/codes-guided-round0/samples.parquet")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda p: p["couplings"]["exact"].pop("by_class"), "couplings.exact.by_class: false should be true for 'guided'"),
        (lambda p: p["methods"]["guided"]["model"].update(dropout=0.0), "methods.guided.model.dropout: 0 should be greater"),
        (lambda p: p["methods"]["guided"]["model"].update(dropout=1.0), "dropout: 1.0 must lie in"),
        (lambda p: p["sample"]["samplers"][3].update(solver="dopri5"), "solver: 'dopri5' is not one of"),
        (
            lambda p: (
                p["datasets"].update(plane={"name": "bimodal", "train": 90, "validation": 9, "test": 9, "pool": 1500})
                or p["grid"].update(plane={"datasets": ["plane"], "methods": ["guided"]})
            ),
            "and 'plane' has no",
        ),
    ],
)
def test_what_cannot_be_is_refused(edit, said, tmp_path, monkeypatch):
    content = tiny.YAML(typ="safe").load(CLASSES)
    edit(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=said):
        check(content)


def test_a_projects_model_is_asked_for_its_classes_by_name(project, tmp_path):
    """In hand it draws what the stage drew; the command writes labels; latents have the classes too."""
    flow = load("digits-guided-round0", project)
    assert (flow.origin.classes, flow.origin.shape) == (tuple(range(10)), (1, 8, 8))
    assert load("digits-free-round0", project).origin.classes == ()
    split = read_table(project / "data/generate/digits/points.parquet", side="source", split="test", seed=3)
    stage = read_table(project / "data/sample/digits-guided-round0/samples.parquet", seed=3, solver="euler(guidance 2)")
    drawn = flow.of(3).sample(x0=split["x"], steps=10, label=stage["label"], guidance=2)
    assert np.allclose(drawn, stage["x"], atol=1e-5)
    words = ["sample", "codes-guided-round0", "-n", "6", "--label", "3", "--guidance", "2", "-o", str(tmp_path / "a.csv")]
    done = tiny.run(project, sys.executable, "-m", "rectiflow_command", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "x_0,x_1,x_2,x_3,x_4,x_5,label"
    assert [line.split(",")[-1] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]] == ["3"] * 6
    words = ["sample", "digits-guided-round0", "--label", "ten", "-o", "a.csv"]
    done = tiny.run(project, sys.executable, "-m", "rectiflow_command", *words)
    assert done.stderr == "error: label: 'ten' is not one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"
