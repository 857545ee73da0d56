"""Minimising movements against closed forms: Gaussian steps, heat, the porous medium, exact steps, and what is refused."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from rectiflow.gradient_flows import SCHEMES
from rectiflow.gradient_flows.energies import ENERGIES, KL
from rectiflow.gradient_flows.flow import exact_score, trained_score
from rectiflow.gradient_flows.grid import Grid, Kernel
from rectiflow.gradient_flows.line import Line
from rectiflow.gradient_flows.points import density
from rectiflow.gradient_flows.recovery import Recovery
from rectiflow.gradient_flows.scheme import Descent
from rectiflow.interpolants import Linear
from rectiflow.metrics import w2
from rectiflow.mixtures import GaussianMixture, Marginal, normal

DOUBLE = torch.float64


def gaussian(mean, std=1.0):
    return GaussianMixture(
        torch.ones(1, dtype=DOUBLE), torch.tensor([mean], dtype=DOUBLE), torch.tensor([std], dtype=DOUBLE)
    )


MODES = GaussianMixture(
    torch.tensor([0.5, 0.5], dtype=DOUBLE),
    torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=DOUBLE),
    torch.ones(2, dtype=DOUBLE),
)


def exercise(tau=0.1):
    """N((3, 3), I) to two modes."""
    return Descent(gaussian([3.0, 3.0]), KL().of(MODES.log_prob), tau, MODES)


def relaxation(mean, std, tau):
    """N(mean, std^2 I) to N(0, I)."""
    target = gaussian([0.0] * len(mean))
    return Descent(gaussian(mean, std), KL().of(target.log_prob), tau, target)


def followed(scheme, descent, steps, seed=0):
    """All states."""
    scheme.fits(descent)
    generator = torch.Generator().manual_seed(seed)
    states = [scheme.begin(descent, generator)]
    for _ in range(steps):
        states.append(scheme.step(descent, states[-1], generator))
    return states


def energies(scheme, descent, states):
    return [scheme.energy(descent, state).energy for state in states]


def moments(scheme, state):
    x, mass = scheme.weighted(state)
    mean = (mass[:, None] * x).sum(0)
    return mean, (mass[:, None] * (x - mean).square()).sum(0).sqrt()


def gaussian_step(mean, std, tau):
    """A step for F = KL(. | N(0, 1)), in closed form."""
    return mean / (1 + tau), (std + math.sqrt(std**2 + 4 * tau * (1 + tau))) / (2 * (1 + tau))


# ---- Gaussians.


@pytest.mark.parametrize("scheme", [Grid(low=-7, high=7, cells=96, eps=0.05), Line()], ids=lambda of: of.label)
def test_steps_of_gaussians_are_those_in_closed_form(scheme):
    tau, mean, std = 0.1, 1.0, 0.8
    states = followed(scheme, relaxation([mean, mean], std, tau), 10)
    for _ in range(10):
        mean, std = gaussian_step(mean, std, tau)
    if isinstance(scheme, Line):  # whose weighted points have the mean alone across the line
        assert float(states[-1]["mean"][0]) == pytest.approx(mean, rel=1e-12)
        assert float(states[-1]["std"]) == pytest.approx(std, rel=1e-12)
        found = moments(scheme, states[-1])[0][:1], moments(scheme, states[-1])[1][:1]
    else:
        found = moments(scheme, states[-1])
    assert found[0].tolist() == pytest.approx([mean] * len(found[0]), rel=1e-4)
    assert found[1].tolist() == pytest.approx([std] * len(found[1]), rel=0.01)


def test_a_step_is_of_first_order_in_tau():
    """Against the Ornstein-Uhlenbeck law after the time 1, whose mean is e^-1."""
    taus = [0.2, 0.1, 0.05]
    errors = [
        abs(float(followed(Line(nodes=401), relaxation([2.0, 2.0], 1.0, tau), round(1 / tau))[-1]["mean"][0]) - 2 / math.e)
        for tau in taus
    ]
    order = np.polyfit(np.log(taus), np.log(errors), 1)[0]
    assert order == pytest.approx(1, abs=0.1)


def blurred(eps, tau):
    """Where entropic steps rest, v: the scaling has the precision `b = (2 tau / eps) (1 - 1 / v)`, and both marginals of the
    plan the variance `(b + 2 / eps) / (b (b + 4 / eps)) = v`.
    """

    def gap(v):
        b = 2 * tau / eps * (1 - 1 / v)
        return v * b * (b + 4 / eps) - (b + 2 / eps)

    return brentq(gap, 1.001, 3)


@pytest.mark.parametrize("eps", [0.1, 0.2])
def test_entropic_steps_rest_at_a_variance_that_is_too_large_by_eps_over_four_tau(eps):
    tau = 0.2
    scheme = Grid(low=-7, high=7, cells=64, eps=eps, debiased=False)
    std = moments(scheme, followed(scheme, relaxation([0.0, 0.0], 1.0, tau), 40)[-1])[1]
    assert std.square().tolist() == pytest.approx([blurred(eps, tau)] * 2, rel=2e-4)
    assert blurred(eps, tau) == pytest.approx(1 + eps / (4 * tau), abs=0.01)
    debiased = Grid(low=-7, high=7, cells=64, eps=eps)
    std = moments(debiased, followed(debiased, relaxation([0.0, 0.0], 1.0, tau), 40)[-1])[1]
    assert std.square().tolist() == pytest.approx([1, 1], rel=0.01)


# ---- Other energies.


def test_heat_spreads_a_gaussian_as_the_equation_says():
    tau, steps = 0.02, 25
    descent = Descent(gaussian([0.0, 0.0], 0.7), ENERGIES["heat"]().of(None), tau)
    scheme = Grid(low=-6, high=6, cells=96, eps=0.04)
    last = followed(scheme, descent, steps)[-1]
    wanted = gaussian([0.0, 0.0], math.sqrt(0.49 + 2 * tau * steps)).log_prob(scheme.centres(2)).exp()
    missed = (last["log_density"].exp().flatten() - wanted).abs().sum() * scheme.volume(2)
    assert float(missed) < 0.01


def barenblatt(x, t):
    """Of `p' = lap p^2` in the plane with mass 1: `t^(-1/2) (C - |x|^2 / (16 sqrt t))_+`, C = 1 / sqrt(8 pi)."""
    c = 1 / math.sqrt(8 * math.pi)
    return (c - x.square().sum(-1) / (16 * math.sqrt(t))).clamp_min(0) / math.sqrt(t)


class Barenblatt:
    dim = 2

    @staticmethod
    def log_prob(x):
        return barenblatt(x, 0.5).clamp_min(1e-30).log()


def test_the_porous_medium_keeps_barenblatts_profile():
    tau, steps = 0.025, 10
    scheme = Grid(low=-2.4, high=2.4, cells=80, eps=0.005)
    states = followed(scheme, Descent(Barenblatt(), ENERGIES["porous"](power=2.0).of(None), tau), steps)
    wanted = barenblatt(scheme.centres(2), 0.5 + tau * steps)
    assert float(wanted.sum()) * scheme.volume(2) == pytest.approx(1, abs=1e-3)
    missed = (states[-1]["log_density"].exp().flatten() - wanted).abs().sum() * scheme.volume(2)
    assert float(missed) < 0.01


def test_a_crowd_keeps_its_bound_and_goes_downhill():
    descent = Descent(gaussian([1.0, 0.0], 1.5), ENERGIES["crowd"](bound=0.12).of(gaussian([0.0, 0.0]).log_prob), 0.1)
    scheme = Grid(low=-8.5, high=9.5, cells=64, eps=0.15, debiased=False)
    states = followed(scheme, descent, 15)
    assert all(float(state["log_density"].max()) < math.log(0.12) + 1e-6 for state in states[1:])
    found = energies(scheme, descent, states)
    assert all(after < before for before, after in itertools.pairwise(found))


@pytest.mark.parametrize(
    "scheme",
    [Grid(low=-6, high=6, cells=64, eps=0.09), SCHEMES["particles"](points=300, plans=0)],
    ids=["grid", "particles"],
)
def test_what_only_gathers_loses_its_variance_at_the_rate_of_its_pull(scheme):
    """`W = r^2 / 2`: every point goes to the mean, `s' = s / (1 + tau)` in a step."""
    descent = Descent(gaussian([0.5, 0.0]), ENERGIES["interaction"](attraction=2.0, repulsion=0.0).of(None), 0.1)
    states = followed(scheme, descent, 5)
    first, last = (moments(scheme, state)[1] for state in (states[0], states[-1]))
    within = 0.03 if isinstance(scheme, Grid) else 0.005  # on the grid the pull is that of the law before the step
    assert (last / first).tolist() == pytest.approx([1.1**-5] * 2, rel=within)


# ---- The exercise.


@pytest.fixture(scope="module")
def exact():
    return Line(), followed(Line(), exercise(), 50)


def test_exact_steps_have_the_energies_of_the_prototypes(exact):
    found = energies(exact[0], exercise(), exact[1])
    assert [found[k] for k in (0, 10, 25, 50)] == pytest.approx([5.6887, 1.3476, 0.4644, 0.2165], rel=2e-3)
    assert all(after < before for before, after in itertools.pairwise(found))
    x, mass = exact[0].weighted(exact[1][-1])
    assert float(mass[x[:, 0] > 0].sum()) == pytest.approx(0.8043, abs=2e-3)


def test_the_debiased_grid_is_within_a_percent_and_keeps_its_mass(exact):
    scheme = Grid(low=-8, high=8)
    states = followed(scheme, exercise(), 50)
    found, wanted = energies(scheme, exercise(), states), energies(exact[0], exercise(), exact[1])
    for k in (10, 25, 50):
        assert found[k] == pytest.approx(wanted[k], rel=0.01)
    assert all(after < before for before, after in itertools.pairwise(found))
    for state in states:
        assert float(state["log_density"].exp().sum()) * scheme.volume(2) == pytest.approx(1, abs=1e-10)
    wrong = (
        (states[-1]["log_density"].flatten().exp() - exact[0].log_prob(exact[1][-1], scheme.centres(2)).exp()).abs().sum()
    )
    assert float(wrong) * scheme.volume(2) / 2 < 0.002  # total variation
    lengths = [sum(of.length(exercise(), a, b) for a, b in itertools.pairwise(run)) for of, run in ((scheme, states), exact)]
    assert lengths[0] == pytest.approx(lengths[1], rel=2e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("particles", {"points": 1000, "plans": 1}),
        ("langevin", {"points": 1000}),
        ("neural", {"points": 2000, "updates": 60}),
    ],
)
def test_points_end_within_the_floor_of_the_exact_law(exact, name, options):
    scheme = SCHEMES[name](**options)
    state = followed(scheme, exercise(), 50)[-1]
    reference, other = (exact[0].sample(exact[1][-1], 1000, torch.Generator().manual_seed(k)).numpy() for k in (1, 2))
    ours = scheme.sample(state, 1000, torch.Generator()).numpy()
    assert w2(ours, reference) < 1.5 * w2(other, reference)


def test_a_potential_is_recovered_from_the_steps_of_points():
    scheme, recovery = SCHEMES["particles"](points=500, plans=0, inner=10), Recovery()
    states = followed(scheme, exercise(), 50)
    sums = [recovery.equations(exercise().energy, a["x"], b["x"], 0.1) for a, b in itertools.pairwise(states)]
    theta = recovery.solve(sum(matrix for matrix, _ in sums), sum(right for _, right in sums))
    x = states[-1]["x"]
    found = torch.corrcoef(torch.stack([recovery.features(x) @ theta, exercise().energy.outer(x)]))[0, 1]
    assert float(found) > 0.98


def test_slopes_of_features_are_their_derivatives():
    recovery, x = Recovery(centres=4), torch.randn(7, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    h = 1e-6
    for i in range(2):
        step = torch.zeros(2, dtype=DOUBLE)
        step[i] = h
        numeric = (recovery.features(x + step) - recovery.features(x - step)) / (2 * h)
        assert torch.allclose(recovery.slopes(x)[:, i], numeric, atol=1e-6)


# ---- The probability flow.


def test_the_flow_carries_points_and_densities_along_the_diffusion():
    source = GaussianMixture(MODES.weights, MODES.means, 0.5 * MODES.stds)
    target = gaussian([0.0, 0.0])
    descent = Descent(source, KL().of(target.log_prob), 0.1, target)
    scheme = SCHEMES["flow"](points=400, substeps=16)
    states = followed(scheme, descent, 10)
    last, kept = states[-1], math.exp(-1.0)
    law = GaussianMixture(source.weights, kept * source.means, (kept**2 * source.stds.square() + 1 - kept**2).sqrt())
    assert (last["log_p"] - law.log_prob(last["x"])).abs().max() < 1e-4
    found = energies(scheme, descent, states)
    assert all(after < before for before, after in itertools.pairwise(found))


def test_the_score_of_a_diffusion_follows_from_a_field_of_any_gaussian_path():
    source, target = normal(2).double(), GaussianMixture(MODES.weights, MODES.means, 0.5 * MODES.stds)

    class Known(Marginal):
        def __call__(self, t, x):
            return self.velocity(t.double(), x[0].double())[None]

    wanted, found = exact_score(target, source), trained_score(Known(Linear(), source, target))
    x = torch.randn(50, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    for s in (0.05, 0.5, 2.0):
        s = torch.tensor(s, dtype=DOUBLE)
        assert torch.allclose(found(s, x), wanted(s, x), rtol=1e-3, atol=1e-3)


# ---- Pieces.


def test_a_kernel_is_applied_where_double_precision_cannot_multiply():
    axis = torch.linspace(-3, 3, 40, dtype=DOUBLE)
    kernel = Kernel([(axis[:, None] - axis).square()] * 2, 0.05)
    small = torch.randn(40, 40, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    separable = -200 * axis.square()[:, None] - 300 * (axis - 1).square()
    crossed = -400 * (axis[:, None] * axis).square()
    for f in (small, small + separable, small + separable + crossed):
        wanted = f
        for k, log_k in enumerate(kernel.logarithms):
            wanted = (log_k[:, :, None] + wanted.movedim(k, 0)[None]).logsumexp(1).movedim(0, k)
        assert torch.allclose(kernel(f), wanted, rtol=1e-12, atol=1e-9)


def test_the_density_of_points_is_that_of_gaussians_around_them():
    x = torch.randn(200, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    wanted = (-torch.cdist(x, x).square() / (2 * 0.3**2)).exp().mean(1) / (2 * math.pi * 0.3**2)
    assert torch.allclose(density(x, 0.3), wanted, rtol=0.01)


def test_a_run_goes_on_to_the_same_bytes():
    for name, options in (
        ("grid", {"low": -8, "high": 8, "cells": 48, "eps": 0.25}),
        ("neural", {"points": 200, "updates": 5}),
    ):
        scheme = SCHEMES[name](**options)

        def run(state, steps, scheme=scheme):
            for k in steps:
                state = scheme.step(exercise(), state, torch.Generator().manual_seed(k))
            return state

        begun = scheme.begin(exercise(), torch.Generator().manual_seed(9))
        whole, half = run(begun, range(4)), run(begun, range(2))
        stored = {part: torch.from_numpy(tensor.numpy().copy()) for part, tensor in half.items()}
        again = run(stored, range(2, 4))
        assert all(torch.equal(whole[part], again[part]) for part in whole)


@pytest.mark.parametrize("mean", [[1.0], [1.0, -0.5, 0.25]], ids=["a line", "space"])
def test_grids_of_one_and_three_axes_take_the_steps_in_closed_form(mean):
    tau, std, scheme = 0.1, 1.0, Grid(low=-6, high=7, cells=128 if len(mean) == 1 else 36, eps=0.2)
    states = followed(scheme, relaxation(mean, std, tau), 3)
    for _ in range(3):
        mean, std = zip(*(gaussian_step(m, std, tau) for m in mean), strict=True)
        std = std[0]
    found = moments(scheme, states[-1])
    assert found[0].tolist() == pytest.approx(mean, rel=1e-3)
    assert found[1].tolist() == pytest.approx([std] * len(mean), rel=0.01)


def test_the_length_of_langevins_way_is_that_of_its_law():
    """From N((3, 0), I) to N(0, I) the law is N(3 e^-t, I): its way is straight, and as long as what its mean has gone."""
    scheme = SCHEMES["langevin"](points=4000, substeps=10)
    descent = relaxation([3.0, 0.0], 1.0, 0.05)
    states = followed(scheme, descent, 20)
    length = sum(scheme.length(descent, a, b) for a, b in itertools.pairwise(states))
    assert length == pytest.approx(3 * (1 - math.exp(-1)), rel=0.1)
    moved = sum(float((b["x"] - a["x"]).square().sum(1).mean().sqrt()) for a, b in itertools.pairwise(states))
    assert moved > 3 * length  # most of it noise


# ---- The way of a trained field.


def shift(v, tau=0.25, steps=4):
    """From N((3, 0), I) along a velocity, looked at as on the way to N(0, I)."""
    return dataclasses.replace(relaxation([3.0, 0.0], 1.0, tau), velocity=v, steps=steps)


def test_a_field_that_only_shifts_goes_straight_and_arrives():
    scheme = SCHEMES["velocity"](points=500, substeps=2)
    descent = shift(lambda t, x: torch.tensor([-3.0, 0.0], dtype=DOUBLE).expand_as(x))
    states = followed(scheme, descent, 4)
    found = [scheme.energy(descent, state) for state in states]
    assert [of.energy for of in found] == pytest.approx([4.5 * (1 - t) ** 2 for t in (0, 0.25, 0.5, 0.75, 1)], abs=0.4)
    assert found[-1].energy == pytest.approx(0, abs=1e-9)  # log p is that of N(0, I), point by point
    assert sum(scheme.length(descent, a, b) for a, b in itertools.pairwise(states)) == pytest.approx(3, rel=1e-9)


def test_a_field_that_spreads_carries_its_density():
    """`v = x` doubles nothing but the logarithm: log p falls by one for each axis in the time 1."""
    scheme, descent = SCHEMES["velocity"](points=50), shift(lambda t, x: x)
    states = followed(scheme, descent, 4)
    assert torch.allclose(states[-1]["x"], states[0]["x"] * math.e, rtol=1e-4)
    assert torch.allclose(states[-1]["log_p"], states[0]["log_p"] - 2, atol=1e-9)


# ---- What is refused.


@pytest.mark.parametrize(
    ("scheme", "descent", "said"),
    [
        (Grid(eps=0.01, low=-8, high=8), exercise(), "eps: 0.01 underflows.*the smallest that does is 0.064"),
        (Grid(eps=0.5, low=-8, high=8), exercise(), "eps: 0.5 must be less than 4 tau, 0.4"),
        (
            Grid(low=-6, high=6),
            exercise(),
            r"high: 6 and low, -6, cut off .* of the source's mass; low .* and high .* would do",
        ),
        (Grid(low=5, high=-5), exercise(), "high: -5 must be above low, 5"),
        (Grid(low=[-8, -8, -8], high=8), exercise(), "low: .* holds 3 numbers, and there are 2 axes"),
        (Grid(), relaxation([0.0] * 4, 1.0, 0.1), "name: 'grid' has 64.4 cells in 4 dimensions, and is for up to 3"),
        (Line(), Descent(gaussian([0.0, 0.0]), ENERGIES["heat"]().of(None), 0.1), "name: 'exact' needs a Gaussian mixture"),
        (
            Line(),
            exercise().__class__(
                MODES, exercise().energy, 0.1, GaussianMixture(MODES.weights, MODES.means.flip(1), MODES.stds)
            ),
            "means on one line",
        ),
        (SCHEMES["flow"](), relaxation([0.0] * 17, 1.0, 0.1), "name: 'flow' carries a density in up to 16 dimensions"),
        (
            SCHEMES["velocity"](),
            dataclasses.replace(shift(lambda t, x: x), energy=ENERGIES["porous"]().of(None)),
            "name: 'velocity' follows kl, heat and potential",
        ),
        (SCHEMES["velocity"](), exercise(), "name: 'velocity' follows a trained field: name a teacher"),
        (SCHEMES["velocity"](), shift(lambda t, x: x, 0.3), "goes from time 0 to 1, and tau times steps is 1.2"),
        (SCHEMES["langevin"](), relaxation([0.0] * 4, 1.0, 0.1), "'langevin' estimates a density in 4 dimensions"),
        (SCHEMES["flow"](), exercise(), "name: 'flow' follows kl to one Gaussian alone"),
        (SCHEMES["langevin"](), Descent(gaussian([0.0, 0.0]), ENERGIES["porous"]().of(None), 0.1), "take particles or grid"),
        (SCHEMES["neural"](), Descent(gaussian([0.0, 0.0]), ENERGIES["porous"]().of(None), 0.1), "'neural' follows kl"),
    ],
)
def test_a_scheme_refuses_what_it_cannot_follow(scheme, descent, said):
    with pytest.raises(ValueError, match=said):
        scheme.fits(descent)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: ENERGIES["kl"]().of(None), "name: 'kl' needs the density of the target"),
        (lambda: ENERGIES["porous"](power=1.0), "power: 1.0 must lie in"),
        (lambda: ENERGIES["crowd"](bound=0.0), "bound: 0.0 must be greater than 0"),
        (lambda: ENERGIES["interaction"](attraction=1.5, repulsion=2.0), "attraction: 1.5 must lie in"),
        (lambda: Grid(cells=1), "cells: 1 must be at least 2"),
        (lambda: Recovery(low=1.0, high=0.0), "high: 0.0 must be above low, 1.0"),
    ],
)
def test_options_out_of_range_are_refused_by_name(build, said):
    with pytest.raises(ValueError, match=said):
        build()
