import pytest
import torch

from rectiflow.datasets import DATASETS
from rectiflow.interpolants import DDPM, INTERPOLANTS, VE, VP, VPSDE, Linear, Target, Trig
from rectiflow.metrics import w2
from rectiflow.mixtures import GaussianMixture, Marginal, normal
from rectiflow.solvers import TABLEAUX, RungeKutta

# Of the two whose defaults suit no finite difference and no small grid, a coarse and a narrow one.
OTHERS = {"linear, sigma 0.3": Linear(sigma=0.3), "ddpm": DDPM(steps=8, beta_max=0.5), "ve": VE(0.1, 1.5)}
PATHS = {name: build() for name, build in INTERPOLANTS.items()} | OTHERS
every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def mixture(*rows):
    """Rows of (weight, std, mean...) in float64."""
    table = torch.tensor(rows, dtype=torch.float64)
    return GaussianMixture(table[:, 0], table[:, 2:], table[:, 1])


SOURCE = mixture((0.2, 0.7, -1.0, 0.5), (0.5, 1.0, 0.0, 0.0), (0.3, 0.4, 1.0, -1.0))
TARGET = mixture((0.6, 0.5, 2.0, 1.0), (0.4, 0.9, -2.0, 0.0))


def points(generator, n=50):
    """Times inside the span of every path, and places where its marginals live."""
    t = 0.05 + 0.9 * torch.rand(n, generator=generator, dtype=torch.float64)
    return t, 2 * torch.randn(n, 2, generator=generator, dtype=torch.float64)


def gradient(f, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def test_score_is_the_gradient_of_the_log_density(generator):
    _, x = points(generator)
    assert torch.allclose(SOURCE.score(x), gradient(SOURCE.log_prob, x), rtol=1e-10, atol=1e-12)


@every_path
def test_marginal_score_is_the_gradient_of_its_log_density(path, generator):
    t, x = points(generator)
    marginal = Marginal(path, SOURCE, TARGET)
    expected = gradient(lambda x: marginal.log_prob(t, x), x)
    assert torch.allclose(marginal.score(t, x), expected, rtol=1e-10, atol=1e-12)


def grid(half, n):
    side = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.cartesian_prod(side, side), (2 * half / (n - 1)) ** 2


@pytest.mark.parametrize("law", [SOURCE, TARGET, DATASETS["8gaussians"]().target, normal(2)], ids=["a", "b", "8", "n"])
def test_density_integrates_to_one(law):
    x, area = grid(10, 201)
    assert law.log_prob(x).exp().sum() * area == pytest.approx(1, abs=1e-6)


@every_path
@pytest.mark.parametrize("t", [0.0, 0.4, 0.9])
def test_marginal_density_integrates_to_one(path, t):
    x, area = grid(10, 201)
    density = Marginal(path, SOURCE, TARGET).log_prob(torch.tensor(t, dtype=torch.float64), x).exp()
    assert density.sum() * area == pytest.approx(1, abs=1e-6)


WHOLE = [path for path in PATHS.values() if not path.noisy and not isinstance(path, (VPSDE, DDPM, VE))]


@pytest.mark.parametrize("path", WHOLE, ids=repr)
def test_marginal_starts_as_the_source(path, generator):
    _, x = points(generator)
    start = Marginal(path, SOURCE, TARGET).log_prob(torch.tensor(0.0, dtype=torch.float64), x)
    assert torch.allclose(start, SOURCE.log_prob(x), rtol=1e-12)


@pytest.mark.parametrize("path", [Linear(), Target(sigma=0.0), Trig(), VP()], ids=repr)
def test_marginal_ends_as_the_target(path, generator):
    _, x = points(generator)
    end = Marginal(path, SOURCE, TARGET).log_prob(torch.tensor(1.0, dtype=torch.float64), x)
    assert torch.allclose(end, TARGET.log_prob(x), rtol=1e-12)


@every_path
def test_marginal_is_the_law_of_the_path(path, generator):
    n, t = 100_000, torch.tensor(0.6, dtype=torch.float64)
    x0, x1 = (side.sample(n, generator).double() for side in (SOURCE, TARGET))
    xt, _ = path.path(t, x0, x1, torch.randn(n, 2, generator=generator, dtype=torch.float64))
    score = Marginal(path, SOURCE, TARGET).score(t, xt)
    # Stein's identity: E[f' + f s] = 0 under the law whose score is s, coordinate by coordinate.
    for f, slope in ((torch.ones_like(xt), 0), (xt, 1), (xt.sin(), xt.cos()), (xt.square(), 2 * xt)):
        term = slope + f * score
        assert (term.mean(0).abs() < 4.5 * term.std(0) / n**0.5).all()


@every_path
def test_velocity_satisfies_the_continuity_equation(path, generator):
    t, x = points(generator)
    marginal, h = Marginal(path, SOURCE, TARGET), 1e-5
    change = (marginal.log_prob(t + h, x) - marginal.log_prob(t - h, x)) / (2 * h)
    divergence = sum(gradient(lambda x, k=k: marginal.velocity(t, x)[:, k], x)[:, k] for k in range(2))
    advection = (marginal.velocity(t, x) * marginal.score(t, x)).sum(-1)
    assert torch.allclose(change, -(divergence + advection), rtol=1e-6, atol=1e-6)


@every_path
def test_scalar_time_means_that_time_for_every_row(path, generator):
    _, x = points(generator)
    marginal, t = Marginal(path, SOURCE, TARGET), torch.tensor(0.3, dtype=torch.float64)
    for function in (marginal.velocity, marginal.score, marginal.log_prob):
        assert torch.allclose(function(t, x), function(t.repeat(len(x)), x), rtol=1e-12)


def test_samples_have_the_moments_of_the_mixture(generator):
    n = 200_000
    x = SOURCE.sample(n, generator)
    assert x.dtype == torch.float32
    weights, means = SOURCE.weights[:, None], SOURCE.means
    mean = (weights * means).sum(0)
    variance = (weights * (means.square() + SOURCE.stds[:, None].square())).sum(0) - mean.square()
    assert torch.allclose(x.double().mean(0), mean, atol=4.5 * variance.max().sqrt().item() / n**0.5)
    assert torch.allclose(x.double().var(0), variance, rtol=0.02)


def test_samples_choose_components_by_weight(generator):
    apart = mixture((0.1, 0.1, -5.0), (0.9, 0.1, 5.0))
    assert (apart.sample(100_000, generator) < 0).double().mean() == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("dim", [1, 5])
def test_normal_is_the_standard_normal(dim, generator):
    x = torch.randn(20, dim, generator=generator)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1)
    assert torch.allclose(normal(dim).log_prob(x), expected, rtol=1e-5)
    assert normal(dim).dim == dim


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
def test_weights_must_be_a_distribution(weights):
    with pytest.raises(ValueError, match="must be non-negative and sum to 1"):
        GaussianMixture(torch.tensor(weights), torch.zeros(2, 3), torch.ones(2))


@pytest.mark.parametrize(("means", "stds"), [((2,), (2,)), ((3, 2), (2,)), ((2, 2), (3,)), ((2, 2), (2, 2))])
def test_shapes_must_name_one_number_of_components(means, stds):
    with pytest.raises(ValueError, match="a mixture of 2 components needs means"):
        GaussianMixture(torch.full((2,), 0.5), torch.zeros(means), torch.ones(stds))


@pytest.mark.parametrize("path", [build() for build in INTERPOLANTS.values()], ids=INTERPOLANTS)
@pytest.mark.parametrize("dataset", ["bimodal", "8gaussians"])
def test_exact_flow_carries_the_source_to_the_target(dataset, path):
    source, target = DATASETS[dataset]().oracle
    marginal, solve = Marginal(path, source, target), RungeKutta(TABLEAUX["rk4"], steps=200)
    generator = torch.Generator().manual_seed(0)
    x0, one, other = (side.sample(1500, generator).double() for side in (source, target, target))
    # Held just inside the span, where the velocity is finite.
    moved = solve(lambda t, x: marginal.velocity(t.clamp(*path.span), x), path.start(x0)).end
    moved, floor = ([w2(part[k::3], one[k::3]) for k in range(3)] for part in (moved, other))
    assert sum(moved) < 1.2 * sum(floor)
