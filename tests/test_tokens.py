"""Tokens: rates and bounds against a posterior that is known, draws against the laws that the models say they have."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch

import rectiflow
import rectiflow.tokens
from rectiflow.exports.graphs import graphs
from rectiflow.kappas import Cosine, Linear, Polynomial
from rectiflow.models import MODELS
from rectiflow.models.autoregressive import Autoregressive, ConditionalAutoregressive
from rectiflow.models.frame import Frame
from rectiflow.models.posterior import Posterior, gap
from rectiflow.models.record import put_together, taken_apart
from rectiflow.models.tokens import ConditionalTokenFlow, TokenFlow
from rectiflow.networks.mlp import MLP
from rectiflow.networks.transformer import Transformer
from rectiflow.objectives.autoregressive import NextToken
from rectiflow.objectives.tokens import LOSSES, TokenMatching
from rectiflow.pairs import Points
from rectiflow.samplers import SAMPLERS, sample
from rectiflow.tokens import HIDDEN, drawn, hot, spread
from rectiflow.training import Training, fit

SOURCES = ("masked", "uniform")
MIXED = (3, 2, 4)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(model, x0, seed=0, given=None, trajectory=False, **row):
    """The solution of one seed."""
    sampler = SAMPLERS[row.pop("name")](**row)
    return sample(model, sampler, x0, generators(seed), trajectory, given)[0]


def equally(vocabulary, n, seed=0):
    return rectiflow.tokens.equally((1, n, len(vocabulary)), vocabulary, *generators(seed), torch.device("cpu"))


def every(vocabulary):
    """All rows of tokens, `(1, n, dim)`."""
    return torch.tensor(list(product(*map(range, vocabulary))))[None]


def counted(x, vocabulary):
    """How often every row is there, in the order of `every`."""
    found = Counter(map(tuple, x.tolist()))
    return torch.tensor([found[row] for row in product(*map(range, vocabulary))], dtype=torch.float64)


def likely(counts, p):
    """Whether counts may be draws of the probabilities p: their chi-square is at most five deviations above its mean."""
    expected, there = counts.sum() * p, p > 0
    chi = ((counts - expected)[there].square() / expected[there]).sum()
    freedom = int(there.sum()) - 1
    return not counts[~there].any() and chi <= freedom + 5 * math.sqrt(2 * freedom)


# ---- A law of finitely many rows, whose posterior is known.


@dataclass(frozen=True)
class Finite(Posterior):
    """The posterior of rows `(m, dim)` with these weights, by going through all of them; where none is possible any more, as
    tokens that jumped in one step were drawn apart, the law of x1.
    """

    vocabulary: tuple[int, ...] = ()
    source: str = "masked"
    kappa: Any = Linear()  # noqa: RUF009  frozen
    rows: Any = None
    prior: Any = None

    def at(self, share, xt, c=None):
        log_w = self.prior.log().expand(*xt.shape[:-1], -1)
        share = torch.as_tensor(share).double().expand(xt.shape[:-1])[..., None]
        for column, values in enumerate(self.vocabulary):
            own = xt[..., column, None]
            same = own == self.rows[:, column]
            if self.source == "masked":
                seen = torch.where(own == HIDDEN, 0.0, torch.where(same, 0.0, -torch.inf))
            else:
                seen = ((1 - share) / values + share * same).log()
            log_w = log_w + seen
        w = torch.where(log_w.isneginf().all(-1, keepdim=True), self.prior, log_w.softmax(-1))
        most = max(self.vocabulary)
        empty = w.new_zeros(*xt.shape[:-1], most)
        return torch.stack([empty.index_add(-1, of, w) for of in self.rows.mT], -2).log()


def finite(rows, vocabulary, source="masked", kappa=None, prior=None):
    prior = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64) if prior is None else prior
    frame = Frame.none(1, len(vocabulary))
    return Finite(None, {"theta": torch.zeros(1, 1)}, frame, vocabulary, source, kappa or Linear(), rows, prior)


def strings(source="masked", kappa=None, length=10):
    """1^k 0^(length - k), each k as likely as another."""
    return finite(torch.ones(length + 1, length).tril(-1).long(), (2,) * length, source, kappa)


def lopsided(source, kappa=None):
    """A law on all rows of a small vocabulary, with nothing even about it."""
    rows = every(MIXED)[0]
    prior = torch.rand(len(rows), generator=torch.Generator().manual_seed(3), dtype=torch.float64).square()
    return finite(rows, MIXED, source, kappa, prior / prior.sum())


def mixture(model, share, xt):
    """The probability of tokens xt `(n, dim)` whose share of the data is this."""
    found = torch.zeros(len(xt), dtype=torch.float64)
    for row, weight in zip(model.rows, model.prior, strict=True):
        part = torch.ones_like(found)
        for column, values in enumerate(model.vocabulary):
            own = xt[:, column]
            noise = (own == HIDDEN).double() if model.source == "masked" else 1 / values
            part = part * (share * (own == row[column]).double() + (1 - share) * noise)
        found += weight * part
    return found


# ---- Rates.


@pytest.mark.parametrize("source", SOURCES)
def test_rates_of_a_token_sum_to_zero_and_only_its_own_is_negative(source):
    model = strings(source)
    share = torch.tensor(0.5, dtype=torch.float64)
    xt = model.origin.noised(model.rows.repeat(5, 1), share, model.vocabulary, *generators(0))[None]
    rates = model.rates(torch.tensor(0.5), xt)
    assert rates.sum(-1).abs().max() < 1e-12
    own = torch.where(xt == HIDDEN, 2, xt)[..., None]
    assert (rates.scatter(-1, own, 0.0) >= 0).all()
    assert (rates.gather(-1, own) <= 0).all()
    if source == "masked":
        assert not rates[xt != HIDDEN].any()  # what is known stays


@pytest.mark.parametrize("kappa", [Linear(), Polynomial(3.0), Cosine()], ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_rates_of_the_posterior_carry_the_mixture(source, kappa):
    """`d p_t(x) / dt = sum_y p_t(y) R(y, x)` for all rows at once, R of rows that differ in one token."""
    model, t, h = lopsided(source, kappa), 0.4, 1e-5
    known = [HIDDEN, 0, 1, 2, 3] if source == "masked" else range(4)
    states = [row for row in product(known, repeat=3) if all(v < size for v, size in zip(row, MIXED, strict=True))]
    place, xt = {row: k for k, row in enumerate(states)}, torch.tensor(states)
    now, before, after = (mixture(model, float(kappa(torch.tensor(s, dtype=torch.float64))), xt) for s in (t, t - h, t + h))
    rates, found = model.rates(torch.tensor(t, dtype=torch.float64), xt[None])[0], torch.zeros_like(now)
    for k, row in enumerate(states):
        for column in range(3):
            for value in known:
                if value < MIXED[column]:
                    to = place[(*row[:column], value, *row[column + 1 :])]
                    found[to] += now[k] * rates[k, column, value]
    assert torch.allclose(found, (after - before) / (2 * h), atol=1e-7)


@pytest.mark.parametrize("eta", [0.0, 3.0])
@pytest.mark.parametrize("kappa", [Linear(), Cosine()], ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_draws_by_the_posterior_have_the_mixture_s_marginals_at_every_time(source, kappa, eta):
    model, n = strings(source, kappa), 2000
    solution = draw(model, equally(model.vocabulary, n), trajectory=True, name="ctmc", steps=200, eta=eta)
    mean = model.rows.double().mean(0)
    for t, x in zip(solution.t[::20], solution.x[::20, 0], strict=True):
        share = float(kappa(t))
        if source == "masked":
            expected = {HIDDEN: torch.full((10,), 1 - share, dtype=torch.float64), 1: share * mean, 0: share * (1 - mean)}
        else:
            expected = {1: share * mean + (1 - share) / 2, 0: share * (1 - mean) + (1 - share) / 2}
        assert set(x.unique().tolist()) <= set(expected)
        for value, p in expected.items():
            # Tokens of a row depend on each other: the error of their mean is at most that of one.
            error = (p * (1 - p) / n).sqrt()
            assert ((x == value).double().mean(0) - p).abs().mean() <= 3 * error.mean()
    ends = counted(solution.end[0], model.vocabulary)
    support = counted(model.rows, model.vocabulary) > 0
    assert ends[support].sum() > 0.95 * n  # tokens that jump in one step are drawn apart
    assert ends[support].min() > n / 11 - 4 * math.sqrt(n / 11)


# ---- Likelihoods.


def test_the_bound_of_hidden_tokens_is_the_likelihood_and_so_is_every_order():
    model, nats = strings(), math.log(11)
    x, generator = model.rows[None], torch.Generator().manual_seed(0)
    for _ in range(5):
        found = model.ordered(x, torch.randperm(10, generator=generator))
        assert found + nats == pytest.approx(torch.zeros(1, 11), abs=1e-9)
    assert model.exact
    assert model.log_prob(x) + nats == pytest.approx(torch.zeros(1, 11), abs=1e-9)
    # All sets of hidden tokens, in place of draws of them.
    sets = every((2,) * 10)[0, 1:].bool()
    xt, k = torch.where(sets[:, None], HIDDEN, model.rows), sets.sum(-1)
    share = (1 - k / 10)[:, None].expand(-1, 11)
    gaps = gap(model.at(share, xt).log_softmax(-1), xt, model.rows.expand_as(xt)).sum(-1)
    weight = torch.tensor([1 / of / math.comb(10, of) for of in k.tolist()], dtype=torch.float64)
    assert weight @ gaps - nats == pytest.approx(torch.zeros(11), abs=1e-3)
    bound = model.bound(x, generators(0), 300)
    assert (bound.mean.mean() - nats).abs() < 4 * bound.error.square().sum().sqrt() / 11 < 0.2


@pytest.mark.parametrize("make", [strings, lopsided])
def test_the_bound_of_a_uniform_source_is_strictly_loose(make):
    model = make(source="uniform")
    nats = -(model.prior * model.prior.log()).sum()
    bound = model.bound(model.rows[None], generators(0), 1000)
    error = (model.prior * bound.error[0]).square().sum().sqrt()
    assert (model.prior * bound.mean[0]).sum() > nats + 10 * error
    assert not model.exact
    with pytest.raises(ValueError, match="does not show itself"):
        model.log_prob(model.rows[None])


def stirred(model, seed=5):
    """A model whose weights are drawn, so that nothing about it is even."""
    theta = model.theta + 0.3 * torch.randn(model.theta.shape, generator=torch.Generator().manual_seed(seed))
    return replace(model, weights={"theta": theta})


NETWORKS: dict[str, Any] = {
    "mlp": partial(MLP, width=16, depth=2),
    "transformer": partial(Transformer, width=16, depth=1, heads=2),
}
TRANSFORMER = NETWORKS["transformer"]


def points(vocabulary=MIXED, seeds=1, n=60, classes=0):
    x = torch.cat([equally(vocabulary, n, seed) for seed in range(seeds)])
    label = torch.arange(n).expand(seeds, -1) % classes if classes else None
    return Points(x, label, classes=classes, vocabulary=vocabulary)


def flow(source="masked", network="mlp", vocabulary=MIXED, **options):
    return stirred(TokenFlow.begin(NETWORKS[network], points(vocabulary), generators(0), source=source, **options))


def causal(vocabulary=MIXED):
    return stirred(Autoregressive.begin(TRANSFORMER, points(vocabulary), generators(0)))


@pytest.mark.parametrize("network", NETWORKS)
def test_probabilities_of_all_rows_add_up_to_one(network):
    model, x = flow(network=network), every(MIXED)
    for order in permutations(range(3)):
        assert model.ordered(x, torch.tensor(order)).exp().sum() == pytest.approx(1)
    assert model.log_prob(x).exp().sum() == pytest.approx(1)
    assert causal().log_prob(x).exp().sum() == pytest.approx(1)


def test_a_flow_s_likelihood_is_the_mean_over_orders():
    model, x = flow(), every(MIXED)
    by_order = torch.stack([model.ordered(x, torch.tensor(order)) for order in permutations(range(3))])
    assert torch.allclose(model.log_prob(x), by_order.logsumexp(0) - math.log(6))
    bound = model.bound(x, generators(0), 400)
    assert ((bound.mean + by_order.mean(0)).abs() < 5 * bound.error).all()
    assert (bound.mean + 3 * bound.error > -model.log_prob(x)).all()


@pytest.mark.parametrize("samples", [16, 2])
@pytest.mark.parametrize("source", ["masked", "uniform"])
def test_the_error_of_a_bound_is_how_far_bounds_are_spread(source, samples):
    """Between seeds, row by row."""
    model, x, times = flow(source), every(MIXED), 200
    found = [model.bound(x, generators(seed), samples) for seed in range(times)]
    spread = torch.stack([bound.mean for bound in found]).var(0).mean().sqrt()
    error = torch.stack([bound.error.square() for bound in found]).mean().sqrt()
    assert 0.85 < float(error / spread) < 1.15


def test_a_uniform_source_s_bounds_are_those_of_probabilities():
    bound = flow("uniform").bound(every(MIXED), generators(0), 400)
    assert (-bound.mean).exp().sum() < 1


# ---- Draws.


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_draws_of_hidden_tokens_have_the_flow_s_likelihood(eta):
    """With the corrector for a posterior that is one of a law alone."""
    model = lopsided("masked") if eta else flow()
    p = model.log_prob(every(MIXED))[0].exp()
    found = draw(model, equally(MIXED, 20000), name="ctmc", steps=300, eta=eta).end[0]
    assert likely(counted(found, MIXED), p)


@pytest.mark.parametrize("kappa", [Linear(), Cosine()], ids=str)
@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_draws_of_uniform_tokens_have_the_law_of_their_posterior(kappa, eta):
    model = lopsided("uniform", kappa)
    found = draw(model, equally(MIXED, 10000), name="ctmc", steps=300, eta=eta).end[0]
    assert likely(counted(found, MIXED), model.prior)


@pytest.mark.parametrize("order", ["columns", "random"])
def test_draws_in_an_order_have_the_likelihood_of_that_order(order):
    model, x = flow(), every(MIXED)
    p = model.ordered(x, torch.arange(3)) if order == "columns" else model.log_prob(x)
    solution = draw(model, equally(MIXED, 20000), name="any_order", order=order)
    assert solution.nfe == 3
    assert likely(counted(solution.end[0], MIXED), p[0].exp())


def test_draws_of_a_causal_law_have_its_likelihood():
    model = causal()
    solution = draw(model, equally(MIXED, 20000), name="autoregressive")
    assert solution.nfe == 3
    assert likely(counted(solution.end[0], MIXED), model.log_prob(every(MIXED))[0].exp())


def test_a_lower_temperature_draws_what_is_likely_more_often():
    model, x0 = flow(vocabulary=(5,)), equally((5,), 20000)
    p = model.log_prob(every((5,)))[0].exp().square()
    for name in ("ctmc", "any_order"):
        assert likely(counted(draw(model, x0, name=name, temperature=0.5).end[0], (5,)), p / p.sum())


def board(source="masked", blocks=4, side=2):
    """The black cells of a board."""
    cells = every((blocks * side,) * 2)[0]
    return finite(cells[(cells // side).sum(1) % 2 == 0], (blocks * side,) * 2, source)


@pytest.mark.parametrize("steps", [1, 2, 8, 32])
def test_the_share_in_support_of_two_tokens_is_one_minus_1_over_2n(steps):
    """Both fall in one step with probability 1 / N, and half of those that are drawn apart land outside."""
    model, n = board(), 20000
    found = draw(model, equally(model.vocabulary, n), name="ctmc", steps=steps).end[0]
    share, p = ((found // 2).sum(1) % 2 == 0).double().mean(), 1 - 1 / (2 * steps)
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


class Counting(Finite):
    """One that counts the rows it is asked at."""

    def at(self, share, xt, c=None):
        self.weights["asked"].append(xt.shape[1])
        return super().at(share, xt, c)


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_pays_for_the_steps_in_which_a_token_of_it_jumps(source):
    model, n, steps = board(source), 4000, 64
    counting = Counting(None, {"theta": torch.zeros(1, 1), "asked": []}, *[getattr(model, name) for name in
                        ("frame", "vocabulary", "source", "kappa", "rows", "prior")])  # fmt: skip
    sampler = SAMPLERS["ctmc"](steps=steps)
    solution = sampler(counting, equally(model.vocabulary, n), *generators(0))
    paid = sum(counting.weights["asked"]) / n
    p = [1 / steps if source == "masked" else 1 / (steps - k) for k in range(steps)]
    expected = sum(1 - (1 - chance) ** 2 for chance in p)
    assert solution.nfe == steps
    assert abs(paid - expected) < 0.1
    assert f"{expected:.1f} of 64" in sampler.__doc__.replace("7.9 and 2.0 of 64", "7.9 of 64, 2.0 of 64")


def test_states_of_a_masked_flow_only_become_known_and_the_last_ones_are():
    model = strings()
    x = draw(model, equally(model.vocabulary, 200), trajectory=True, name="ctmc", steps=20).x[:, 0]
    assert (x[0] == HIDDEN).all()
    assert (x[-1] != HIDDEN).all()
    assert ((x[:-1] == HIDDEN) | (x[:-1] == x[1:])).all()
    again = draw(model, equally(model.vocabulary, 200), trajectory=True, name="ctmc", steps=20, eta=10.0).x[:, 0]
    assert ((again[:-1] != HIDDEN) & (again[1:] == HIDDEN)).any()
    assert (again[-1] != HIDDEN).all()


def test_draws_are_exact_and_nothing_impossible_is_drawn():
    logits = torch.tensor([0.0, -torch.inf, 2.0, -1.0, -torch.inf])
    found = drawn(logits.expand(50000, -1), *generators(0))
    assert likely(torch.bincount(found, minlength=5).double(), logits.double().softmax(-1))
    assert drawn(torch.full((10, 3), -torch.inf).index_fill(1, torch.tensor(1), 5.0), *generators(0)).eq(1).all()


# ---- Conditions.


def informed(kind=ConditionalTokenFlow, vocabulary=MIXED, network="mlp", **options):
    data = points(vocabulary, classes=3)
    return stirred(kind.begin(NETWORKS[network], data, generators(0), **options)), data


KINDS = [(ConditionalTokenFlow, "ctmc"), (ConditionalTokenFlow, "any_order"), (ConditionalAutoregressive, "autoregressive")]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_draws_are_of_the_condition_that_is_asked_for(kind, name):
    model, data = informed(kind, network="transformer")
    c = data.given()[:, :1].expand(1, 10000, -1)
    row = {"name": name, "steps": 300} if name == "ctmc" else {"name": name}
    found = draw(model, equally(MIXED, 10000), given=c, **row).end[0]
    x = every(MIXED)
    p = model.log_prob(x, c[:, : x.shape[1]])[0].exp()
    assert likely(counted(found, MIXED), p)
    assert not likely(counted(found, MIXED), model.log_prob(x)[0].exp())


@pytest.mark.parametrize("name", ["ctmc", "any_order"])
def test_guided_draws_of_one_token_are_of_the_law_that_is_raised(name):
    model, data = informed(vocabulary=(5,))
    x, c, scale = every((5,)), data.given()[:, :1].expand(1, 20000, -1), 2.5
    log_p = scale * model.log_prob(x, c[:, :5]) + (1 - scale) * model.log_prob(x)
    found = draw(model, equally((5,), 20000), given=c, name=name, scale=scale)
    assert likely(counted(found.end[0], (5,)), log_p[0].softmax(-1))
    assert found.nfe == 2 * (64 if name == "ctmc" else 1)


def test_guidance_scales_the_rate_of_jumps():
    """A token of one value is hidden at t with probability (1 - t)^Z, Z the sum of the guided law."""
    model, data = informed(vocabulary=(5,))
    n, steps, scale = 8000, 128, 3.0
    c = data.given()[:, :1].expand(1, n, -1)
    x = draw(model, equally((5,), n), given=c, trajectory=True, name="ctmc", steps=steps, scale=scale).x
    x1 = every((5,))
    z = float((scale * model.log_prob(x1, c[:, :5]) + (1 - scale) * model.log_prob(x1)).exp().sum())
    assert z > 1.01
    for k in (steps // 4, steps // 2):
        p = (1 - k / steps) ** z
        assert abs(float((x[k] == HIDDEN).double().mean()) - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_conditions_are_left_out_of_a_share_of_the_training():
    model, data = informed(dropout=0.25)
    rows = torch.arange(60).expand(400, -1)
    told = model.told(data.seed(0), rows, *generators(0))
    assert told.sum(-1).mean() == pytest.approx(0.75, abs=0.02)
    assert torch.equal(told.argmax(-1)[told.any(-1)], data.label[0, rows][told.any(-1)])


@pytest.mark.parametrize(
    ("options", "row", "message"),
    [
        ({}, {"scale": 2.0, "asked": False}, "scale: 2 goes beyond what is asked for"),
        ({"dropout": 0.0}, {"scale": 2.0}, "trained with a dropout of 0"),
        ({"source": "uniform"}, {"name": "any_order"}, "any_order: from the source 'uniform' tokens come in no order"),
    ],
)
def test_draws_that_cannot_be_are_refused(options, row, message):
    model, data = informed(**options)
    given = data.given() if row.pop("asked", True) else None
    with pytest.raises(ValueError, match=message):
        draw(model, equally(MIXED, 60), given=given, **{"name": "ctmc", **row})


# ---- Networks.


def test_tokens_are_ones_among_zeros_and_hidden_ones_zeros_alone():
    x = torch.tensor([[2, 1, HIDDEN]])
    assert hot(x, MIXED).tolist() == [[0, 0, 1, 0, 1, 0, 0, 0, 0]]
    numbers = torch.arange(9.0)[None]
    logits = spread(numbers, MIXED)
    assert logits.shape == (1, 3, 4)
    assert torch.equal(logits[~logits.isneginf()], numbers[0])
    assert logits.isneginf().sum(-1).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("fused", [True, False])
def test_a_causal_network_says_of_a_token_what_those_before_it_tell(fused):
    vocabulary = (3, 3, 3, 3, 3)
    model = replace(causal(vocabulary), network=replace(causal(vocabulary).network, fused=fused))
    x = equally(vocabulary, 40)
    logits = model.logits(x)
    for column in range(5):
        changed = x.clone()
        changed[..., column] = (x[..., column] + 1) % 3
        moved = (model.logits(changed) != logits).any(-1)
        assert not moved[..., : column + 1].any()
        assert column == 4 or moved[..., column + 1].all()


@pytest.mark.parametrize("is_causal", [True, False])
def test_a_transformer_without_fused_operations_says_the_same(is_causal):
    model = causal() if is_causal else flow(network="transformer")
    x = every(MIXED)
    fused, plain = (each.log_prob(x) for each in (model, model.plain()))
    assert torch.allclose(fused, plain, atol=1e-5)


# ---- Training.


def training(**changes):
    return Training(**({"steps": 300, "batch": 128, "lr": 5e-3, "warmup": 10, "log_every": 100, "ema": 0.99} | changes))


def learned(objective, model, n=4000, seeds=(0,), **changes):
    rows = [model.rows[torch.multinomial(model.prior, n, True, generator=of)] for of in generators(*seeds)]
    data = Points(torch.stack(rows), vocabulary=model.vocabulary)
    return fit(objective, data, data, generators(*seeds), training(**changes))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("source", SOURCES)
def test_training_finds_the_posterior(source, loss):
    law = lopsided(source)
    objective = TokenMatching(partial(MLP, width=32, depth=2), partial(TokenFlow.begin, source=source), loss)
    model, _ = learned(objective, law, n=20000, steps=800)
    begun = TokenFlow.begin(objective.network, points(), generators(0), source=source)
    share = torch.tensor(0.8, dtype=torch.float64)
    xt = law.origin.noised(law.rows.repeat(20, 1), share, MIXED, *generators(0))[None]
    q = law.at(share, xt).softmax(-1)
    before, after = ((each.at(share, xt).double().softmax(-1) - q).abs().sum(-1).mean() / 2 for each in (begun, model))
    assert after < 0.05
    assert after < before / 3
    entropy, x = -(law.prior * law.prior.log()).sum(), every(MIXED)
    if source == "masked":
        assert 0 < -(law.prior * model.log_prob(x)[0]).sum() - entropy < 0.02
    else:
        near, own = (each.bound(x, generators(0), 200).mean[0] for each in (model, law))
        assert (law.prior * (near - own)).sum() < (0.15 if loss == "bound" else 0.5)


def test_training_finds_a_causal_law():
    law = lopsided("masked")
    model, _ = learned(NextToken(TRANSFORMER), law, n=20000)
    excess = -(law.prior * model.log_prob(every(MIXED))[0]).sum() + (law.prior * law.prior.log()).sum()
    assert 0 < excess < 0.02


OBJECTIVES = {
    "masked": TokenMatching(NETWORKS["mlp"]),
    "uniform": TokenMatching(TRANSFORMER, partial(TokenFlow.begin, source="uniform"), "bound"),
    "conditional": TokenMatching(NETWORKS["mlp"], ConditionalTokenFlow.begin),
    "causal": NextToken(TRANSFORMER),
    "conditional causal": NextToken(TRANSFORMER, ConditionalAutoregressive.begin),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_seed_s_weights_do_not_depend_on_who_trains_beside_it(name):
    data = points((7, 7), seeds=3, classes=2 if "conditional" in name else 0)
    both, _ = fit(OBJECTIVES[name], data, data, generators(0, 1, 2), training(steps=20, batch=33))
    alone = replace(data, x=data.x[1:2], label=None if data.label is None else data.label[1:2])
    own, _ = fit(OBJECTIVES[name], alone, alone, generators(1), training(steps=20, batch=33))
    assert torch.equal(both.seed(1).theta, own.theta)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_model_is_put_together_as_it_was(name):
    data = points(classes=2 if "conditional" in name else 0)
    model = stirred(OBJECTIVES[name].begin(data, generators(0)))
    tensors, spec = taken_apart(model)
    again = put_together(tensors, spec)
    assert again == replace(model, weights=again.weights, frame=again.frame)
    assert torch.equal(again.theta, model.theta)
    assert MODELS.name(type(again)) == spec["model"]["name"]


# ---- In a user's hands.


def told_apart(n=4000):
    """Rows of two tokens that are equal, and their class, which says whether they are even."""
    first = torch.randint(4, (n,), generator=torch.Generator().manual_seed(2))
    return torch.stack([first, first], 1).numpy(), ["odd" if value % 2 else "even" for value in first.tolist()]


FIT: dict[str, Any] = {"training": {"steps": 400, "lr": 5e-3, "warmup": 10, "ema": 0.99}}


@pytest.mark.parametrize("method", ["tokens", "autoregressive"])
def test_what_is_fitted_to_tokens_is_kept_in_a_file_and_gives_tokens(method, tmp_path):
    rows, label = told_apart()
    rectiflow.fit(rows, method, label=label, **FIT).save(tmp_path / "flow.safetensors")
    trained = rectiflow.load(tmp_path / "flow.safetensors")
    x = trained.sample(500, label="odd", seed=3)
    assert x.dtype.kind == "i"
    assert np.array_equal(x, trained.sample(500, label="odd", seed=3))
    assert (x[:, 0] == x[:, 1]).mean() > 0.95
    assert (x[:, 0] % 2).mean() > 0.95
    assert np.exp(trained.log_prob(every((4, 4))[0], label="odd")).sum() == pytest.approx(1)
    far = trained.sample(500, label="odd", guidance=2.0, seed=3)
    assert (far[:, 0] % 2).mean() >= (x[:, 0] % 2).mean() - 0.01
    with pytest.raises(ValueError, match="'euler' cannot draw from this model"):
        trained.sample(5, sampler="euler")
    with pytest.raises(ValueError, match="is a law of tokens, whose draws are random, and cannot be exported"):
        graphs(trained.model, trained.sampler())


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([[0, 1.5], [1, 0]], {}, "x1: 1.5 in column 1 is no token"),
        ([[0, -1], [1, 0]], {}, "x1: -1 in column 1 is no token"),
        ([[0, 0], [1, 0]], {}, "vocabulary: 1 values of column 1"),
        ([[0, 1], [1, 0]], {"x0": [[0.0, 0.0]]}, "x0: rows of tokens start from hidden or uniform tokens"),
    ],
)
def test_rows_that_are_no_tokens_are_not_fitted(rows, options, message):
    with pytest.raises(ValueError, match=message):
        rectiflow.fit(np.array(rows * 20), "tokens", **options)


# ---- Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": Polynomial(-1.0)}, "kappa: .*goes from inf to 1; a schedule rises from 0 to 1"),
        ({"kappa": Polynomial(0.0)}, "kappa: .*rises from 0 to 1"),
        ({"kappa": lambda t: t - (2 * math.pi * t).sin() / 4}, "does not rise everywhere"),
        ({"source": "noise"}, "source: 'noise' is not one of masked, uniform"),
    ],
)
def test_a_flow_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        flow(**options)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [((), "there is none"), ((3, 1), "1 values of column 1"), ((2, 5000), "5000 values of column 1; a token has 2 to 4096")],
)
def test_a_vocabulary_that_cannot_be_is_refused(vocabulary, message):
    data = Points(torch.zeros(1, 4, 2, dtype=torch.long), vocabulary=vocabulary)
    with pytest.raises(ValueError, match=message):
        TokenFlow.begin(NETWORKS["mlp"], data, generators(0))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0, 1, 4]], "x: 4 in column 2 is not one of its values, 0 to 3"),
        ([[0, -1, 0]], "x: -1 in column 1"),
        ([[0, 1]], "x: rows of 2 tokens; the vocabulary has 3 columns"),
        ([[0.5, 1.0, 1.0]], "x: float32 values; tokens are integers"),
    ],
)
def test_rows_that_are_no_tokens_have_no_likelihood(x, message):
    for ask in (flow().log_prob, causal().log_prob, lambda x: flow("uniform").bound(x, generators(0), 2)):
        with pytest.raises(ValueError, match=message):
            ask(torch.tensor([x]))


def test_what_a_network_or_a_model_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"network\.name: MLP sees all tokens of a row at once"):
        Autoregressive.begin(NETWORKS["mlp"], points(), generators(0))
    with pytest.raises(ValueError, match="transformer reads tokens"):
        _ = Transformer(4, 2).shapes
    with pytest.raises(ValueError, match="needs a data set with labels or conditions"):
        ConditionalTokenFlow.begin(NETWORKS["mlp"], points(), generators(0))
    lacking = replace(points(classes=3), label=torch.arange(60)[None] % 2)
    with pytest.raises(ValueError, match="class 2 of 3"):
        ConditionalTokenFlow.begin(NETWORKS["mlp"], lacking, generators(0))
    with pytest.raises(ValueError, match="11 tokens"):
        strings(length=11).log_prob(torch.zeros(1, 1, 11, dtype=torch.long))
    with pytest.raises(ValueError, match="samples: 1 must be even, and at least 2"):
        flow().bound(every(MIXED), generators(0), 1)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_corrector_without_a_step_to_act_in_is_refused(steps):
    with pytest.raises(ValueError, match=f"eta: 1 with {steps} steps"):
        SAMPLERS["ctmc"](steps=steps, eta=1.0)
