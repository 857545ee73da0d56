import pytest
import torch

from rectiflow.interpolants import INTERPOLANTS, VP, Linear, Target, Trig
from rectiflow.mixtures import GaussianMixture, Marginal

PATHS = {name: build() for name, build in INTERPOLANTS.items()} | {"linear, sigma 0.3": Linear(sigma=0.3)}
# Target with sigma > 0 ends beside x1 on purpose, so it is given the sigma that ends on it.
REACHING = [Linear(), Target(sigma=0.0), Trig(), VP()]

every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def ends(generator, *shape):
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(3))


def times(path, n, margin=0.0):
    low, high = path.span
    return torch.linspace(low + margin, high - margin, n, dtype=torch.float64)


@every_path
def test_ut_is_the_time_derivative_of_xt(path, generator):
    h = 1e-6  # the steps to either side stay on the span
    t = times(path, 101, margin=h)
    x0, x1, z = ends(generator, 101, 3)
    _, ut = path.path(t, x0, x1, z)
    difference = (path.path(t + h, x0, x1, z)[0] - path.path(t - h, x0, x1, z)[0]) / (2 * h)
    assert torch.allclose(ut, difference, rtol=1e-6, atol=1e-8)


@every_path
def test_derivative_is_finite_on_the_whole_span(path, generator):
    x0, x1, z = ends(generator, 1001, 2)
    _, ut = path.path(times(path, 1001), x0, x1, z)
    assert ut.isfinite().all()


@pytest.mark.parametrize("path", [path for path in PATHS.values() if not path.noisy], ids=repr)
def test_paths_without_latent_start_at_x0(path, generator):
    x0, x1, _ = ends(generator, 5, 2)
    assert torch.equal(path.path(torch.tensor(0.0, dtype=torch.float64), x0, x1)[0], x0)


@pytest.mark.parametrize("path", REACHING, ids=repr)
def test_paths_end_at_x1(path, generator):
    x0, x1, _ = ends(generator, 5, 2)
    alpha, beta = (weight(torch.tensor(1.0, dtype=torch.float64)) for weight in (path.alpha, path.beta))
    assert torch.allclose(alpha * x0 + beta * x1, x1, atol=1e-15)


def test_target_path_ends_sigma_away_from_x1(generator):
    x0, x1, _ = ends(generator, 5, 2)
    end, _ = Target(sigma=0.25).path(torch.tensor(1.0, dtype=torch.float64), x0, x1)
    assert torch.allclose(end - x1, 0.25 * x0)


def test_latent_moves_the_point_by_sigma_and_not_the_velocity(generator):
    x0, x1, z = ends(generator, 5, 2)
    t = torch.full((5,), 0.4, dtype=torch.float64)
    (xt, ut), (clean, straight) = Linear(sigma=0.5).path(t, x0, x1, z), Linear().path(t, x0, x1)
    assert torch.allclose(xt - clean, 0.5 * z)
    assert torch.equal(ut, straight)


def test_noisy_path_without_z_is_refused(generator):
    x0, x1, _ = ends(generator, 5, 2)
    with pytest.raises(ValueError, match="Linear has a latent: path needs z"):
        Linear(sigma=0.1).path(torch.rand(5, dtype=torch.float64), x0, x1)


@every_path
def test_scalar_time_means_that_time_for_every_row(path, generator):
    x0, x1, z = ends(generator, 7, 2)
    t = torch.tensor(0.3, dtype=torch.float64)
    for scalar, batch in zip(path.path(t, x0, x1, z), path.path(t.repeat(7), x0, x1, z), strict=True):
        assert torch.allclose(scalar, batch, rtol=1e-14)


def test_times_may_share_memory(generator):
    x0, x1, _ = ends(generator, 7, 2)
    t = torch.tensor(0.3, dtype=torch.float64)
    assert torch.equal(Linear().path(t.expand(7), x0, x1)[0], Linear().path(t.repeat(7), x0, x1)[0])


@every_path
def test_leading_axes_are_independent_rows(path, generator):
    x0, x1, z = ends(generator, 3, 7, 2)
    t = times(path, 21).reshape(3, 7)
    together = path.path(t, x0, x1, z)
    for k in range(3):
        for part, whole in zip(path.path(t[k], x0[k], x1[k], z[k]), together, strict=True):
            assert torch.allclose(part, whole[k], rtol=1e-14)


@every_path
def test_float32_stays_float32(path):
    t, x = torch.rand(4), torch.ones(4, 2)
    assert {part.dtype for part in path.path(t * path.span[1], x, x, x)} == {torch.float32}


@every_path
def test_oracle_velocity_is_the_conditional_mean_of_ut(path, generator):
    source = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1))
    means = torch.tensor([[-2.0, 1.0], [2.0, 0.0]])
    target = GaussianMixture(torch.tensor([0.3, 0.7]), means, torch.tensor([0.5, 1.0]))
    n = 100_000
    x0, x1 = (side.sample(n, generator).double() for side in (source, target))
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    # 0.02 from the span's end: the variance of ut, hence the standard errors below, must exist.
    t = 0.98 * path.span[1] * torch.rand(n, generator=generator, dtype=torch.float64)
    xt, ut = path.path(t, x0, x1, z)
    residual = ut - Marginal(path, source, target).velocity(t, xt)
    # A conditional mean leaves a residual orthogonal to every function of (t, xt).
    probes = (torch.ones_like(xt), xt, xt.flip(-1), xt.sin(), xt.square(), t[:, None] * xt, t.cos()[:, None] * xt.cos())
    for probe in probes:
        product = residual * probe
        assert (product.mean(0).abs() < 4.5 * product.std(0) / n**0.5).all()


@pytest.mark.parametrize("build", [Linear, Target])
@pytest.mark.parametrize("sigma", [-0.1, float("nan")])
def test_bad_sigma_is_refused_by_name(build, sigma):
    with pytest.raises(ValueError, match=f"^sigma: {sigma}"):
        build(sigma=sigma)


@pytest.mark.parametrize("eps", [0.0, 1.0, -1e-3, float("nan")])
def test_bad_eps_is_refused_by_name(eps):
    with pytest.raises(ValueError, match=f"^eps: {eps}"):
        VP(eps=eps)


def test_vp_span_stops_eps_before_the_singular_end():
    assert VP(eps=0.25).span == (0.0, 0.75)
