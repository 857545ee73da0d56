import pytest
import torch

from rectiflow.interpolants import DDPM, INTERPOLANTS, VE, VP, VPSDE, Bridge, Linear, Polynomial, Stochastic, Target, Trig
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
def test_paths_without_latent_start_at_x0_but_for_diffusions_which_keep_a_rest_of_x1(path, generator):
    x0, x1, _ = ends(generator, 5, 2)
    start = path.path(torch.tensor(0.0, dtype=torch.float64), x0, x1)[0]
    assert torch.equal(path.start(x0), start) or isinstance(path, (VPSDE, DDPM, VE))
    rest = {VPSDE: 0.0066, DDPM: 0.0064, VE: 1.0}.get(type(path), 0.0)  # beta(0); x1 is small beside VE's sigma_max
    assert torch.allclose(start - path.start(x0), rest * x1, rtol=0.02)


@pytest.mark.parametrize("path", [VPSDE(), DDPM(), VP(), Trig()], ids=repr)
def test_these_paths_preserve_the_variance(path):
    t = times(path, 101)
    assert torch.allclose(path.alpha(t).square() + path.beta(t).square(), torch.ones_like(t))


@pytest.mark.parametrize("k", [1, 2, 500, 1000])
def test_ddpms_steps_lie_on_the_path(k):
    kept = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    beta = DDPM().beta(torch.tensor(1 - k / 1000, dtype=torch.float64))
    assert beta.square() == pytest.approx(kept[k - 1].item(), rel=1e-9)


def test_ddpms_schedule_is_the_vp_sdes_in_the_limit_of_small_steps():
    """Song et al., arXiv 2011.13456, appendix B: b(s) = steps times the discrete rates."""
    t = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    fine = DDPM(steps=100_000, beta_min=0.1 / 100_000, beta_max=20 / 100_000)
    assert torch.allclose(fine.beta(t), VPSDE(beta_min=0.1, beta_max=20.0).beta(t), rtol=1e-3)


@pytest.mark.parametrize("path", [path for path in PATHS.values() if path.noisy], ids=repr)
def test_latent_paths_end_at_their_ends(path):
    low, high = (torch.tensor(end, dtype=torch.float64) for end in (0.0, 1.0))
    if not isinstance(path, Linear):
        assert path.gamma(low) == pytest.approx(0, abs=1e-15)
        assert path.gamma(high) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: VPSDE(beta_max=0.01), r"beta_max: 0.01 must be greater than beta_min \(0.1\)"),
        (lambda: VPSDE(eps=0.0), "eps: 0.0 must lie in"),
        (lambda: DDPM(steps=1), "steps: 1 must be at least 2"),
        (lambda: DDPM(beta_max=1.0), "beta_min: 0.0001 and beta_max"),
        (lambda: VE(sigma_min=0.0), "sigma_min: 0.0 must lie between 0 and sigma_max"),
        (lambda: Polynomial(n=0.5), "n: 0.5 must be at least 1"),
        (lambda: Bridge(sigma=0.0), "sigma: 0.0 must be greater than 0"),
        (lambda: Bridge(eps=0.5), "eps: 0.5 must lie in"),
        (lambda: Stochastic(mean="vp"), "mean: 'vp' is not one of linear, trig, polynomial"),
        (lambda: Stochastic(latent="none"), "latent: 'none' is not one of bridge, sine, parabola"),
    ],
)
def test_bad_options_of_paths_are_refused_by_name(build, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        build()


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
@pytest.mark.parametrize("shape", [(), (4,)], ids=["one time", "a time for each"])
def test_float32_stays_float32(path, shape):
    t, x = torch.rand(shape), torch.ones(4, 2)
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
