"""Bottlenecks: bounds against closed forms and each other, codes and their gradients, draws, and the stage on real files."""

import copy
import json
import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import stages.bound
import stages.couple
import stages.generate
import stages.shared.params
import stages.train
from rectiflow.datasets import bimodal, grid25
from rectiflow.models.autoencoder import Autoencoder
from rectiflow.models.frame import Frame
from rectiflow.models.fsq import FSQ
from rectiflow.models.vq import VQ, apart
from rectiflow.networks.mlp import MLP
from rectiflow.objectives.elbo import Elbo
from rectiflow.pairs import Points
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.training import Training, fit
from stages.check.prune import prune
from stages.check.whole import check
from stages.grid import expand, write_grid
from stages.report import sources
from stages.report.results import headlines, tidy
from stages.shared import places
from stages.shared.bounds import measured
from stages.shared.compute import stream
from stages.shared.io import read_table, write_table
from stages.shared.models import read_model
from stages.shared.params import Refused
from stages.shared.points import read_split

DOUBLE = torch.float64
NETWORK = partial(MLP, width=24, depth=2)
KINDS = {
    "vae": partial(Autoencoder.begin, deviation=0.3),
    "vae learned": partial(Autoencoder.begin, latent=1, deviation=0.3, learned=True),
    "vq": partial(VQ.begin, codes=12, learned=True),
    "fsq": partial(FSQ.begin, levels=[5, 4], deviation=0.3),
}
QUANTISED = ["vq", "fsq"]


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def points(seeds, n=400, law=None):
    law = law or bimodal().target
    return Points(torch.stack([law.sample(n, torch.Generator().manual_seed(1000 + seed)) for seed in seeds]))


def options(**changes):
    return Training(**({"steps": 300, "batch": 128, "warmup": 20, "log_every": 100, "lr": 5e-3, "ema": 0.99} | changes))


def train(kind, seeds=(0,), data=None, beta=1.0, network=NETWORK, **changes):
    data = data or points(seeds)
    return fit(Elbo(network, KINDS[kind], beta), data, data, generators(seeds), options(**changes))


@pytest.fixture(scope="module", params=KINDS)
def trained(request):
    """A name and a model of two seeds."""
    return request.param, train(request.param, (0, 1), points((0, 1), 2000))[0]


# ---- A linear Gaussian model, where all is known.


@dataclass(frozen=True)
class Affine:
    """`W^T h + b` as a network."""

    inputs: int
    outputs: int
    fused: bool = True

    @property
    def shapes(self):
        return {"weight": (self.inputs, self.outputs), "bias": (1, self.outputs)}

    def columns(self, x, *times):
        return x.mT

    def through(self, theta, columns):
        weight, bias = theta.split([self.inputs * self.outputs, self.outputs], 1)
        return weight.unflatten(1, (self.inputs, self.outputs)).mT @ columns + bias[..., None]


DEVIATION, SCALE, SHIFT = 0.5, 3.0, (1.0, -2.0, 0.5)
COLUMNS = torch.tensor([[0.6, 0.8, 0.0], [-0.8, 0.6, 1.0]], dtype=DOUBLE)  # orthogonal, so that the posterior is diagonal


@pytest.fixture
def linear():
    """A decoder of orthogonal columns with its own posterior, and the law of x."""
    precision = 1 + COLUMNS.square().sum(1) / DEVIATION**2
    toward = COLUMNS / DEVIATION**2 / precision[:, None]
    offset = torch.tensor([0.1, 0.2, -0.3], dtype=DOUBLE)
    encoder = torch.cat([toward.mT, torch.zeros(3, 2, dtype=DOUBLE)], 1)
    bias = torch.cat([-toward @ offset, -precision.log() / 2])
    theta = torch.cat([encoder.flatten(), bias, COLUMNS.flatten(), offset])[None]
    one = torch.ones(1, 1, 1, dtype=DOUBLE)
    frame = Frame(torch.tensor(SHIFT, dtype=DOUBLE).reshape(1, 1, 3), SCALE * one, one)
    model = Autoencoder(Affine(2, 3), {"theta": theta}, frame, deviation=DEVIATION)
    covariance = COLUMNS.mT @ COLUMNS + DEVIATION**2 * torch.eye(3, dtype=DOUBLE)
    return model, MultivariateNormal(frame.shift[0, 0] + SCALE * offset, SCALE**2 * covariance)


def test_with_its_own_posterior_every_bound_is_the_closed_form(linear):
    model, law = linear
    x = torch.randn(1, 20, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * 4
    noise = torch.randn(3, 1, 20, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.importance(x, noise), law.log_prob(x))
    torch.testing.assert_close(model.importance(x, noise[:1]), law.log_prob(x))
    torch.testing.assert_close(model.exact(x, 201), law.log_prob(x), rtol=1e-8, atol=1e-8)
    found = model.bounds(x, generators([0]), 1000)
    torch.testing.assert_close(found["elbo"], -law.log_prob(x), rtol=0, atol=0.2)
    torch.testing.assert_close(found["rate"] + found["distortion"], found["elbo"])
    assert abs(float((found["elbo"] + law.log_prob(x)).mean())) < 0.03


def test_another_posterior_has_a_bound_above(linear):
    model, law = linear
    theta = model.theta + 0.3 * torch.randn(model.theta.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(3)) * (
        torch.arange(model.theta.shape[1]) < 16
    )  # the encoder's
    other = replace(model, weights={"theta": theta})
    x = law.mean + torch.randn(1, 300, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(4)) @ law.scale_tril.mT
    found = other.bounds(x, generators([0]), 64)
    torch.testing.assert_close(found["nll_exact"], -law.log_prob(x), rtol=1e-6, atol=1e-6)
    assert float(found["elbo"].mean()) > float(found["iw_bound"].mean()) + 0.05
    assert float(found["iw_bound"].mean()) > float(found["nll_exact"].mean()) - 1e-3


def test_draws_have_the_decoders_law(linear):
    model, law = linear
    x0 = torch.randn(1, 40000, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    once = sample(model, SAMPLERS["once"](), x0, [None])[0].end[0]
    torch.testing.assert_close(once, (x0[0, :, :2] @ COLUMNS) * SCALE + law.mean)
    (drawn,) = sample(model, SAMPLERS["once"](noise=True), x0, generators([1]))
    assert drawn.nfe == 1
    torch.testing.assert_close(drawn.end[0].mean(0), law.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.end[0].mT.cov(), law.covariance_matrix, rtol=0, atol=0.3)
    (again,) = sample(model, SAMPLERS["once"](noise=True), x0, generators([1]))
    assert torch.equal(drawn.end, again.end)


# ---- Bounds of trained models.


def test_the_rate_is_the_divergence_from_the_prior(trained):
    name, model = trained
    x = points((5, 6), 50).x
    noise = torch.randn(2, 50, model.noise, generator=torch.Generator().manual_seed(0))
    rate = model.bound(x, noise).rate
    if name.startswith("vae"):
        mu, sigma, _ = model.posterior(model.columns(x))
        posterior, prior = Normal(mu, sigma), Normal(torch.zeros_like(mu), 1.0)
        torch.testing.assert_close(rate, kl_divergence(posterior, prior).sum(1), rtol=1e-4, atol=1e-4)
        z = mu + sigma * torch.randn((20000, *mu.shape), generator=torch.Generator().manual_seed(1))
        drawn = (posterior.log_prob(z) - prior.log_prob(z)).sum(2).mean(0)
        torch.testing.assert_close(rate, drawn, rtol=0, atol=0.05)
    else:
        share = model.log_prior().exp()
        torch.testing.assert_close(share.sum(1), torch.ones(2))
        torch.testing.assert_close(rate, -share.gather(1, model.coded(x)).log())


def test_each_bound_is_above_the_next_and_all_above_the_entropy(trained):
    _, model = trained
    law, n = bimodal(), 1000
    x, entropy = points((5, 6), n).x, law.entropy()
    with torch.no_grad():
        found, few = (model.bounds(x, generators([0, 1]), samples) for samples in (64, 4))
    mean = {name: of.double().mean(1) for name, of in (*found.items(), *((f"{name}_few", of) for name, of in few.items()))}
    chain = [mean[name] for name in ("elbo", "iw_bound_few", "iw_bound", "nll_exact") if name in mean]
    assert all((above > below - 5e-3).all() for above, below in pairwise(chain))
    assert (chain[0] > chain[-1] + 5e-3).all()
    error = float(law.target.log_prob(x).std()) / math.sqrt(n)
    assert (mean["nll_exact"] > entropy - 3 * error).all()
    divergence = mean["nll_exact"] + law.target.log_prob(x).double().mean(1)  # from the truth, at the same points
    assert ((divergence > 0.01) & (divergence < 0.5)).all()
    if "nll_exact_coarse" in mean:
        torch.testing.assert_close(mean["nll_exact_coarse"], mean["nll_exact"], rtol=0, atol=1e-4)


def test_the_likelihood_is_that_of_a_density(trained):
    """Which integrates to one, in the units of x."""
    name, model = trained
    side = torch.linspace(-11, 11, 111)
    grid = torch.cartesian_prod(side, side)[None]
    with torch.no_grad():
        log_prob = model.seed(1).exact(grid, *([1001 if model.latent == 1 else 101] if name.startswith("vae") else []))
    total = log_prob.double().exp().sum() * float(side[1] - side[0]) ** 2
    assert float(total) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_units_changes_bounds_by_its_jacobian(kind):
    data = points([0])
    changes = {"steps": 20, "log_every": 10}
    _, curves = train(kind, data=data, **changes)
    _, others = train(kind, data=Points(10 * data.x + 3), **changes)
    torch.testing.assert_close(
        others.validation - curves.validation, torch.full((1, 2), 2 * math.log(10)), rtol=0, atol=2e-3
    )


def test_more_weight_on_the_rate_leaves_less_of_it():
    """At a fixed deviation."""
    data = points([0], 2000)
    found = []
    for beta in (0.25, 1.0, 4.0):
        model, _ = train("vae", data=data, beta=beta)
        with torch.no_grad():
            found.append({name: float(of.mean()) for name, of in model.bounds(data.x[:, :500], generators([0]), 8).items()})
    assert found[0]["rate"] > found[1]["rate"] + 0.3 > found[2]["rate"] + 0.6
    assert found[0]["distortion"] < found[1]["distortion"] < found[2]["distortion"]
    assert found[1]["elbo"] < min(found[0]["elbo"], found[2]["elbo"])


def test_a_learned_deviation_rests_at_that_of_what_the_decoder_leaves_and_is_drawn():
    data = points([0, 1])
    model, noise = KINDS["vae learned"](NETWORK, data, generators([0, 1])), torch.zeros(2, 400, 1)

    def slope(log_deviation):
        """The distortion, and its slope in the logarithm of the deviation."""
        theta = model.theta.clone()
        theta[:, -1:] = log_deviation
        at = replace(model, weights={"theta": theta.requires_grad_()})
        distortion = at.bound(data.x, noise).distortion.mean(1)
        return distortion.detach(), torch.autograd.grad(distortion.sum(), theta)[0][:, -1]

    assert [*model.shapes][-1] == "log_deviation"
    (near, _), (far, _) = slope(0.0), slope(20.0)
    rest = (near - far + 40).log()[:, None] / 2  # half the mean of the squares of both coordinates is the variance of one
    torch.testing.assert_close(slope(rest)[1], torch.zeros(2), rtol=0, atol=1e-4)
    assert (slope(rest - 0.1)[1] < -0.1).all()
    assert (slope(rest + 0.1)[1] > 0.1).all()
    model.part("log_deviation").copy_(rest)
    blurred = model.blur(torch.zeros(2, 40000, 2), torch.Generator().manual_seed(0))
    torch.testing.assert_close(blurred.std((1, 2)), (rest.exp() * model.frame.scale[..., 0])[:, 0], rtol=0.01, atol=0)


# ---- Codes.


@pytest.fixture(params=QUANTISED)
def quantised(request):
    return train(request.param, (0, 1), points((0, 1), 1000), steps=100)[0]


def test_what_a_code_stands_for_has_that_code(quantised):
    book = quantised.book()
    said = book.mT.contiguous() if isinstance(quantised, VQ) else book.mT.atanh()
    codes, z, _ = quantised.quantise(said)
    assert torch.equal(codes, torch.arange(quantised.codes).expand(2, -1))
    torch.testing.assert_close(z, book.mT)


def test_every_latent_of_fsq_has_all_its_levels():
    model = KINDS["fsq"](NETWORK, points([0]), generators([0]))
    levels = [part.unique() for part in model.book()[0].mT]
    torch.testing.assert_close(levels[0], torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8]))
    torch.testing.assert_close(levels[1], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    far = torch.tensor([[[-50.0, 50.0], [-50.0, 50.0]]])
    assert model.quantise(far).codes.tolist() == [[0, 19]]


def test_gradients_pass_a_code_as_if_it_were_not_there(quantised):
    h = torch.randn(2, 2, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    along = torch.randn(2, 2, 50, generator=torch.Generator().manual_seed(1))
    _, z, _ = quantised.quantise(h)
    (grad,) = torch.autograd.grad((z * along).sum(), h)
    slope = 1.0 if isinstance(quantised, VQ) else 1 - h.detach().tanh().square()
    torch.testing.assert_close(grad, slope * along)
    assert not torch.equal(z, h)


def gradients(model, part):
    """Of one part of the bound, by part of the weights."""
    theta = model.theta.detach().clone().requires_grad_()
    bound = replace(model, weights={"theta": theta}).bound(points((5, 6), 200).x, torch.zeros(2, 200, 0))
    (grad,) = torch.autograd.grad(getattr(bound, part).sum(), theta)
    return {name for name in model.shapes if replace(model, weights={"theta": grad}).part(name).any()}


def test_the_rate_moves_the_prior_alone_and_the_distortion_both_networks(quantised):
    assert gradients(quantised, "rate") == {"logits"}
    networks = {"encoder", "decoder", *(["log_deviation"] if quantised.learned else [])}
    assert gradients(quantised, "distortion") == networks
    if isinstance(quantised, VQ):
        assert gradients(quantised, "extra") == {"encoder", "anchors"}
        assert gradients(replace(quantised, commitment=0.0), "extra") == {"anchors"}


def test_the_prior_draws_each_code_as_often_as_it_says(quantised):
    x0 = torch.randn(2, 20000, 2, generator=torch.Generator().manual_seed(0))
    theta = quantised.theta.clone()
    model = replace(quantised, weights={"theta": theta})
    model.part("logits").copy_(torch.randn(2, model.codes, generator=torch.Generator().manual_seed(1)))
    share, book, drawn = model.log_prior().exp(), model.book().detach(), model.prior(x0).mT.detach()
    for k in range(2):
        codes = (drawn[k][:, None] - book[k]).square().sum(2).argmin(1)
        torch.testing.assert_close(drawn[k], book[k][codes])
        found = torch.bincount(codes, minlength=model.codes) / len(codes)
        torch.testing.assert_close(found, share[k].detach(), rtol=0, atol=0.012)
    torch.testing.assert_close(model.push(x0), model.points(model.decode(drawn.mT)))


@pytest.mark.parametrize("kind", QUANTISED)
def test_no_code_is_dead_on_25_modes(kind):
    build = {"vq": partial(VQ.begin, codes=25), "fsq": partial(FSQ.begin, levels=[5, 5])}[kind]
    objective = Elbo(partial(MLP, width=32, depth=2), partial(build, deviation=0.05))
    data, test = points([0], 4000, grid25().target), points([9], 1000, grid25().target)
    model, _ = fit(objective, data, test, generators([0]), options(steps=800, batch=64, lr=1e-2))
    with torch.no_grad():
        found = {name: float(of.mean()) for name, of in model.bounds(test.x, generators([0]), 1).items()}
    assert found["codes_used"] >= 0.9
    assert float(model.codes_used(test.x[:, :5])) <= 0.2
    assert found["nll_exact"] < grid25().entropy() + 0.3  # that of a single Gaussian is 3.5 above


def test_anchors_begin_far_from_each_other():
    rows = grid25().target.sample(500, torch.Generator().manual_seed(0))
    chosen = apart(rows, 25)
    assert torch.equal(chosen[0], rows[0])
    assert len((chosen / 1.5).round().unique(dim=0)) == 25
    assert apart(rows[:3], 5).shape == (5, 2)


# ---- Seeds, and what is refused.


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_does_not_depend_on_its_neighbours(kind, threads):
    torch.set_num_threads(threads)
    changes = {"steps": 4, "batch": 33, "log_every": 2}
    alone, curve = train(kind, [5], **changes)
    for company in ([2, 5, 9], list(range(8))):
        together, curves = train(kind, company, **changes)
        k = company.index(5)
        assert torch.equal(together.theta[k], alone.theta[0])
        assert torch.equal(curves.training[k], curve.training[0])
        assert torch.equal(curves.validation[k], curve.validation[0])
    if threads == 1:
        x = points(company, 37).x
        with torch.no_grad():
            all_, one = together.bounds(x, generators(company), 3), alone.bounds(x[k : k + 1], generators([5]), 3)
            assert all(torch.equal(all_[name][k], of[0]) for name, of in one.items())
            assert torch.equal(together.push(x)[k], alone.push(x[k : k + 1])[0])


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: partial(Autoencoder.begin, latent=3), r"model.latent: 3 must be at most 2"),
        (lambda: partial(Autoencoder.begin, latent=0), r"model.latent: 0 must be at least 1"),
        (lambda: partial(VQ.begin, deviation=0.0), r"model.deviation: 0.0 must be greater than 0"),
        (lambda: partial(VQ.begin, codes=0), r"model.codes: 0 must lie in \[1, 65536\]"),
        (lambda: partial(VQ.begin, codes=10**6), r"model.codes: 1000000 must lie in \[1, 65536\]"),
        (
            lambda: partial(FSQ.begin, levels=[1000, 1000]),
            r"model.levels: .* make 1000000 codes, and should make at most 65536",
        ),
        (lambda: partial(VQ.begin, commitment=-0.1), r"model.commitment: -0.1 must be at least 0"),
        (lambda: partial(FSQ.begin, levels=[5, 1]), r"model.levels: 1 must be at least 2"),
        (lambda: partial(FSQ.begin, levels=[5]), r"model.levels: \[5\] should be a number for each of the 2 latents"),
    ],
)
def test_options_out_of_range_are_refused_by_name(build, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        Elbo(NETWORK, build()).begin(points([0]), generators([0]))


def test_a_wide_rate_needs_a_fixed_deviation():
    with pytest.raises(ValueError, match=r"^beta: -1.0 must be at least 0"):
        Elbo(NETWORK, KINDS["vae"], beta=-1.0)
    with pytest.raises(ValueError, match=r"^beta: 4.0 must be at most 1 where the deviation is learned"):
        Elbo(NETWORK, KINDS["vae learned"], beta=4.0).begin(points([0]), generators([0]))
    Elbo(NETWORK, KINDS["vae"], beta=4.0).begin(points([0]), generators([0]))


# ---- The stage.

ELBO = {"objective": "elbo"}
MODELS = {
    "vae": {**ELBO, "model": {"name": "autoencoder", "learned": True}, "beta": 0.5},
    "vq": {**ELBO, "model": {"name": "vq", "codes": 6}},
}
ROWS = {"bimodal-vae-round0": ("bimodal", "datasets"), "mine-vq-round0": ("mine", "tables")}


def content(seeds=(0, 3)):
    found = tiny.params()
    found["seeds"] = list(seeds)
    found["methods"] |= copy.deepcopy(MODELS)
    found["grid"] |= {
        "one": {"datasets": ["bimodal"], "methods": ["vae"], "bound": {"samples": 5}},
        "two": {"datasets": ["mine"], "methods": ["vq"], "bound": {}},
    }
    return found


def computed(where, patch, seeds):
    """The tables of both rows of a project with these seeds."""
    (where / "params.yaml").write_text(json.dumps(content(seeds)))
    write_grid(where)
    patch.chdir(where)
    stages.shared.params.read.cache_clear()
    for name, (dataset, kind) in ROWS.items():
        stages.generate.main([kind, dataset])
        stages.train.main([name])
        stages.bound.main([name])
    return {name: pd.DataFrame(read_table(measured(name))) for name in ROWS}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    where = tiny.clone(tmp_path_factory.mktemp("bounds"))
    with pytest.MonkeyPatch.context() as patch:
        yield where, computed(where, patch, [0, 3])
    stages.shared.params.read.cache_clear()


def test_numbers_are_the_models_own_and_a_tables_in_its_own_units(project, monkeypatch):
    where, found = project
    monkeypatch.chdir(where)
    waiting = pd.read_parquet(where / "data/faithful.parquet")
    slope = float(np.log(waiting[["eruptions", "waiting"]].std()).sum())
    for name, (dataset, _) in ROWS.items():
        assert list(found[name]) == ["seed", "solver", "nfe", "role", "metric", "value"]
        model, seeds = read_model(places.model(places.trained(name)))
        assert seeds == [0, 3]
        x = torch.tensor(read_split(dataset, "target", "test").x)
        for k, seed in enumerate(seeds):
            of = found[name][found[name].seed == seed].set_index("metric").value
            with torch.no_grad():
                own = model.seed(k).bounds(x[k : k + 1], [stream(f"bound/{name}", seed)], 5 if dataset == "bimodal" else 64)
            assert of["rate"] == pytest.approx(float(own["rate"].mean()), rel=1e-5)
            more = slope if dataset == "mine" else 0.0
            for metric in ("elbo", "distortion", "nll_exact"):
                assert of[metric] == pytest.approx(float(own[metric].double().mean()) + more, rel=1e-4)
            if dataset == "bimodal":
                assert of["elbo_floor"] == pytest.approx(bimodal().entropy(), rel=1e-9)
                assert of["elbo"] > of["nll_exact"]
                assert set(of.index) == {*own, "elbo_floor"}
            else:
                assert 0 < of["codes_used"] <= 1
                assert set(of.index) == set(own)


def test_a_seeds_numbers_do_not_depend_on_the_others(project, tmp_path, monkeypatch):
    alone = computed(tiny.clone(tmp_path), monkeypatch, [3])
    for name, found in project[1].items():
        pd.testing.assert_frame_equal(alone[name], found[found.seed == 3].reset_index(drop=True))
    stages.shared.params.read.cache_clear()


def test_a_bound_never_stands_under_the_name_of_a_likelihood(project, monkeypatch):
    where, found = project
    monkeypatch.chdir(where)
    write_table(
        places.evaluated("bimodal-vae-round0"),
        {name: column.to_numpy()[:0] for name, column in found["bimodal-vae-round0"].items()},
    )
    said = headlines(tidy({("bimodal", "vae", 0): sources.measured("bimodal-vae-round0")}))["bimodal"]["vae"]["round0"]
    assert set(said) == {"elbo", "elbo_floor", "iw_bound", "nll_exact", "rate"}


def test_rows_are_those_of_the_blocks_that_ask_for_it_and_what_they_left_goes_with_them(tmp_path, monkeypatch):
    assert expand(tiny.params())["bounds"] == {}
    rows = check(content())["bounds"]
    gone = expand(content())
    assert rows["bimodal-vae-round0"] == {
        "dataset": "bimodal", "model": "autoencoder", "network": "mlp", "override": {"samples": 5}
    }  # fmt: skip
    assert rows["mine-vq-round0"]["override"] == {}
    monkeypatch.chdir(tmp_path)
    for name in ("mine-vq-round0", "gone-vq-round0"):
        write_table(measured(name), {"seed": np.zeros(1)})
    prune(content(), gone)
    assert [path.stem for path in measured("").parent.iterdir()] == ["mine-vq-round0"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("grid", "one", "bound"), {"samples": 0}, r"grid\.one\.bound\.samples: 0: .*greater than or equal to 1"),
        (("grid", "one", "bound"), {"sample": 3}, r"grid\.one\.bound\.sample: 3: unknown key"),
        (
            ("grid", "plane", "bound"),
            {},
            r"grid\.plane\.bound: Velocity, the model of 'icfm', has no bound; .* autoencoder, vq",
        ),
        (("methods", "vae", "beta"), 2.0, r"methods\.vae\.beta: 2\.0 must be at most 1 where the deviation is learned"),
        (("methods", "vq", "model"), {"name": "vq", "latent": 3}, r"methods\.vq\.model\.latent: 3 must be at most 2"),
        (("methods", "vq", "model"), {"name": "glow"}, r"methods\.vq\.model\.name: 'glow' is not trained by 'elbo', .* fsq"),
        (("methods", "vq", "network"), {"name": "convolutions"}, r"methods\.vq\.network\.name: convolutions see pictures"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(path, value, said):
    asked = content()
    section, row, key = path
    asked[section][row][key] = value
    with pytest.raises(Refused, match=rf"^params\.yaml: {said}.*$"):
        check(asked)
