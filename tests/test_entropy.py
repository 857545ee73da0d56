"""Entropies against published ones, closed forms and draws; densities against their integral."""

import math

import pytest
import torch

from rectiflow.dataset import mixture_entropy
from rectiflow.datasets import DATASETS, checkerboard, gaussians, moons, scurve, spirals
from rectiflow.entropy import entropy, gaussian_entropy
from rectiflow.mixtures import GaussianMixture, normal

UNIT = GaussianMixture(*(part.double() for part in vars(normal(2)).values()))
KNOWN = {"moons": moons(), "scurve": scurve(), "spirals": spirals(), "checkerboard": checkerboard()}


@pytest.mark.parametrize(("noise", "nats"), [(0.1, 1.0076), (0.05, 0.2892), (0.06, 0.4770), (0.2, 1.6775)])
def test_two_moons_have_the_entropies_that_quadrature_over_the_arcs_gives(noise, nats):
    assert moons(noise=noise, scale=1.0).entropy() == pytest.approx(nats, abs=5e-5)


def test_a_scale_adds_its_logarithm_for_each_dimension():
    assert moons(scale=2.0).entropy() == pytest.approx(moons(scale=1.0).entropy() + 2 * math.log(2), abs=1e-9)


def test_eight_gaussians_far_apart_have_the_entropy_of_one_and_of_the_choice():
    far = gaussians(radius=50.0, std=1.0).entropy()
    assert far == pytest.approx(gaussian_entropy(2, 1.0) + math.log(8), abs=1e-9)
    assert gaussians(radius=5.0, std=math.sqrt(0.1)).entropy() == pytest.approx(2.6147, abs=1e-3)


def test_a_checkerboard_has_the_logarithm_of_its_area():
    assert checkerboard(scale=4.0).entropy() == pytest.approx(math.log(32))


def test_a_gaussian_by_quadrature_is_the_closed_form():
    quadrature = entropy(UNIT.log_prob, (-9, -9), (9, 9), 1 / 3)
    assert quadrature == pytest.approx(math.log(2 * math.pi * math.e), abs=1e-10)
    assert gaussian_entropy(3, 2.0) == pytest.approx(3 * (math.log(2 * math.pi * math.e) / 2 + math.log(2)))


@pytest.mark.parametrize("name", KNOWN)
def test_the_entropy_is_the_mean_of_the_draws_own_density(name, generator):
    target = KNOWN[name].target
    nats = -target.log_prob(target.sample(8000, generator))
    assert KNOWN[name].entropy() == pytest.approx(float(nats.mean()), abs=5 * float(nats.std()) / math.sqrt(8000) + 1e-6)


@pytest.mark.parametrize("name", ["moons", "scurve"])
def test_a_density_integrates_to_one(name):
    target = KNOWN[name].target
    side = torch.arange(-7, 7, 0.08, dtype=torch.float64)
    total = sum(target.log_prob(torch.stack([x.expand_as(side), side], 1)).exp().sum() for x in side) * 0.08**2
    assert float(total) == pytest.approx(1, abs=1e-6)


def test_finite_tables_and_mixtures_in_space_have_none():
    assert DATASETS["parquet"](torch.randn(10, 2)).entropy() is None
    several = GaussianMixture(torch.ones(2) / 2, torch.zeros(2, 3), torch.ones(2))
    assert mixture_entropy(several) is None


def test_a_curve_without_blur_has_no_density():
    assert moons(noise=0.0).entropy() is None
