import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from rectiflow.dataset import Dataset, Empirical
from rectiflow.datasets import DATASETS
from rectiflow.mixtures import GaussianMixture, normal
from rectiflow.tabular import SCALINGS, table
from rectiflow.units import Logit
from stages.shared.splits import told

BUILT = {name: build() for name, build in DATASETS.items() if name not in ("fashion", "parquet")}  # a folder, a file
every_dataset = pytest.mark.parametrize("dataset", BUILT.values(), ids=BUILT)
MIXTURES = {"bimodal", "8gaussians", "grid25"}
TOKENS = {"checkerboard_tokens", "strings"}

SIDES = {
    f"{name} {place}": side
    for name, dataset in BUILT.items()
    for place, side in (("source", dataset.source), ("target", dataset.target))
}
DRAWN = {name: side for name, side in SIDES.items() if not isinstance(side, Empirical)}
REAL = {name: side for name, side in DRAWN.items() if name.split()[0] not in TOKENS}
every_side = pytest.mark.parametrize("side", DRAWN.values(), ids=DRAWN)
every_real_side = pytest.mark.parametrize("side", REAL.values(), ids=REAL)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def rows(n=50, dim=3):
    return 10 * torch.randn(n, dim, generator=seeded(0)) + 100


@every_real_side
def test_draws_are_finite_float32_rows(side, generator):
    x = side.sample(1000, generator)
    assert x.shape[0] == 1000
    assert x.ndim == 2
    assert x.dtype == torch.float32
    assert x.isfinite().all()
    assert len(x.unique(dim=0)) > 990


@every_side
def test_draws_repeat_with_their_seed_only(side):
    first, again, other = (side.sample(100, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_side
def test_draws_continue_with_the_generator(side, generator):
    assert not torch.equal(side.sample(100, generator), side.sample(100, generator))


@every_dataset
def test_both_sides_have_one_dimension(dataset, generator):
    sides = (dataset.source, dataset.target)
    widths = [len((side.rows if isinstance(side, Empirical) else side.sample(1, generator))[0]) for side in sides]
    assert widths[0] == widths[1] - told(dataset)  # what is drawn with conditions has these beside x


@pytest.mark.parametrize("name", BUILT)
def test_oracle_exists_for_pairs_of_mixtures_alone(name):
    dataset = BUILT[name]
    if name in MIXTURES:
        assert dataset.oracle == (dataset.source, dataset.target)
    else:
        assert dataset.oracle is None


@pytest.mark.parametrize("name", BUILT)
def test_only_moons_and_tokens_start_away_from_the_standard_normal(name):
    assert BUILT[name].gaussian_source == (name not in {"moons", *TOKENS})


def test_sources_of_the_plane_are_chosen_by_name(generator):
    moons = DATASETS["moons"](noise=0.05, scale=2.0).target.sample(5, torch.Generator().manual_seed(1))
    problem = DATASETS["8gaussians"](source="moons", noise=0.05, scale=2.0)
    assert torch.equal(problem.source.sample(5, torch.Generator().manual_seed(1)), moons)
    assert not problem.gaussian_source
    assert DATASETS["moons"](source="normal").gaussian_source
    for name in ("moons", "8gaussians"):
        with pytest.raises(ValueError, match=r"^source: 'swiss' is not one of"):
            DATASETS[name](source="swiss")


@pytest.mark.parametrize(
    "source",
    [
        GaussianMixture(torch.ones(1), torch.ones(1, 2), torch.ones(1)),
        GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.full((1,), 2.0)),
        GaussianMixture(torch.full((2,), 0.5), torch.zeros(2, 2), torch.ones(2)),
        Empirical(torch.zeros(5, 2)),
    ],
    ids=["shifted", "wide", "two", "rows"],
)
def test_other_sources_are_not_the_standard_normal(source):
    assert not Dataset(source, normal(2)).gaussian_source


@pytest.mark.parametrize("name", [name for name, side in DRAWN.items() if isinstance(side, GaussianMixture)])
def test_mixtures_draw_their_own_moments(name, generator):
    side, n = DRAWN[name], 50_000
    x = side.sample(n, generator).double()
    weights = side.weights[:, None]
    mean = (weights * side.means).sum(0)
    variance = (weights * (side.means.square() + side.stds.square()[:, None])).sum(0) - mean.square()
    assert torch.allclose(x.mean(0), mean.double(), atol=4.5 * variance.max().sqrt().item() / n**0.5)
    assert torch.allclose(x.var(0), variance.double(), rtol=0.04)


def test_bimodal_target_stands_at_the_given_distance():
    target = DATASETS["bimodal"](distance=3.0).target
    assert sorted(target.means.tolist()) == [[-3, 0], [3, 0]]


@pytest.mark.parametrize(("name", "side"), [("8gaussians", "target"), ("moons", "source")])
def test_eight_gaussians_stand_evenly_on_their_circle(name, side):
    means = getattr(DATASETS[name](radius=4.0), side).means.double()
    assert len(means) == 8
    assert torch.allclose(means.norm(dim=1), torch.full((8,), 4.0, dtype=torch.float64))
    gaps = (means[:, None] - means).norm(dim=-1).sort(1).values[:, 1:3]
    assert torch.allclose(gaps, gaps[0, 0].expand(8, 2), rtol=1e-5)


def test_moons_are_two_half_circles_that_do_not_meet(generator):
    x = DATASETS["moons"](noise=0.0, scale=1.0).target.sample(2000, generator) + torch.tensor([0.5, 0.25])
    upper = x.norm(dim=1)
    lower = (x - torch.tensor([1.0, 0.5])).norm(dim=1)
    on_upper, on_lower = (upper - 1).abs() < 1e-5, (lower - 1).abs() < 1e-5
    assert (on_upper ^ on_lower).all()
    assert 0.45 < on_upper.float().mean() < 0.55
    assert (x[on_upper, 1] >= 0).all()
    assert (x[on_lower, 1] <= 0.5).all()


def test_moons_lie_near_the_origin(generator):
    x = DATASETS["moons"]().target.sample(20_000, generator)
    assert x.mean(0).abs().max() < 0.1


def test_checkerboard_fills_its_black_squares_evenly(generator):
    x = DATASETS["checkerboard"](scale=2.0).target.sample(8000, generator)
    square = (x + 2).floor().long()
    assert ((square >= 0) & (square < 4)).all()
    assert (square.sum(1) % 2 == 0).all()
    counts = (4 * square[:, 0] + square[:, 1]).bincount(minlength=16)
    assert (counts[counts > 0] - 1000).abs().max() < 150
    assert (counts > 0).sum() == 8


def test_scurve_runs_on_two_unit_circles(generator):
    x = DATASETS["scurve"](noise=0.0, scale=1.0).target.sample(2000, generator)
    centre = torch.stack([torch.zeros(2000), -x[:, 1].sign()], 1)
    assert torch.allclose((x + centre).norm(dim=1), torch.ones(2000), atol=1e-5)
    assert 0.45 < (x[:, 1] > 0).float().mean() < 0.55


def test_spirals_are_symmetric_and_reach_their_scale(generator):
    x = DATASETS["spirals"](noise=0.0, scale=3.0, turns=1.0).target.sample(20_000, generator).double()
    radius = x.norm(dim=1)
    assert 2.95 < radius.max() < 3 + 1e-5
    assert radius.mean() == pytest.approx(2, abs=0.03)  # two thirds, as on a disc: points get no sparser outwards
    assert x.mean(0).abs().max() < 0.1
    # On an arm the radius tells the angle, up to the half turn between the two.
    angle = torch.atan2(x[:, 1], x[:, 0]) - 2 * torch.pi * radius / 3
    assert angle.sin().abs().max() < 1e-4


@pytest.mark.parametrize("name", ["moons", "scurve", "spirals"])
def test_noise_blurs_a_curve_and_scale_stretches_it(name, generator):
    def drawn(**options):
        return DATASETS[name](**options).target.sample(500, seeded(3)).double()

    clean, stretched, noisy = drawn(noise=0.0, scale=1.0), drawn(noise=0.0, scale=2.0), drawn(noise=0.2, scale=2.0)
    assert torch.allclose(stretched, 2 * clean, atol=1e-5)
    assert (noisy - stretched).std() == pytest.approx(2 * 0.2, rel=0.1)


def test_digits_are_1797_pictures_between_minus_one_and_one():
    pictures = DATASETS["digits"]().target.rows
    assert pictures.shape == (1797, 64)
    assert pictures.dtype == torch.float32
    assert (pictures.min(), pictures.max()) == (-1, 1)


def test_standard_scaling_gives_mean_zero_and_deviation_one():
    scaled = table(rows(), scaling="standard").target.rows
    assert scaled.dtype == torch.float32
    assert scaled.mean(0).abs().max() < 1e-5
    assert torch.allclose(scaled.std(0), torch.ones(3), rtol=1e-5)


def test_range_scaling_gives_minus_one_to_one():
    scaled = table(rows(), scaling="range").target.rows
    assert torch.allclose(scaled.amin(0), -torch.ones(3), rtol=1e-5)
    assert torch.allclose(scaled.amax(0), torch.ones(3), rtol=1e-5)


def test_no_scaling_leaves_the_rows():
    assert torch.equal(table(rows()).target.rows, rows())


def test_table_without_source_starts_from_the_standard_normal():
    dataset = table(rows(dim=5))
    assert dataset.gaussian_source
    assert dataset.source.dim == 5
    assert dataset.oracle is None


@pytest.mark.parametrize("scaling", SCALINGS)
def test_source_table_is_scaled_by_the_target(scaling):
    dataset = table(rows(), rows() + 7, scaling=scaling)
    source, target = dataset.source.rows.double(), dataset.target.rows.double()
    gap = source - target
    assert torch.allclose(gap, gap[:1].expand_as(gap), atol=1e-4)
    scale = (rows()[0] - rows()[1]).double() / (target[0] - target[1])
    assert torch.allclose(gap[0] * scale, torch.full((3,), 7.0, dtype=torch.float64), rtol=1e-3)
    assert not dataset.gaussian_source


@pytest.mark.parametrize("scaling", [name for name in SCALINGS if name != "none"])
def test_constant_column_is_refused_by_number(scaling):
    flat = rows()
    flat[:, 1] = 4.0
    with pytest.raises(ValueError, match=f"^scaling: '{scaling}' cannot scale column 1: it is constant"):
        table(flat, scaling=scaling)


def test_constant_column_is_fine_unscaled():
    assert torch.equal(table(torch.ones(4, 2)).target.rows, torch.ones(4, 2))


@pytest.mark.parametrize("scaling", [name for name in SCALINGS if name != "none"])
def test_single_row_is_refused_as_constant(scaling):
    with pytest.raises(ValueError, match=r"^scaling: .* cannot scale column 0"):
        table(torch.ones(1, 2), scaling=scaling)


def test_unknown_scaling_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"^scaling: 'unit' is not one of none, standard, range"):
        table(rows(), scaling="unit")


def test_marked_rows_leave_the_target_and_get_its_map():
    given = rows(40, 70).double()
    marked = torch.arange(40) % 4 == 0
    found, alone = table(given, marked=marked, scaling="standard"), table(given[~marked], scaling="standard")
    assert torch.equal(found.target.rows, alone.target.rows)
    assert found.outliers.rows.shape == (10, 70)
    assert np.array_equal(found.outliers.rows, found.units(given[marked].numpy()))
    assert table(given).outliers is None


def test_a_scaled_tables_units_bring_its_rows_to_their_scale_and_a_volume_to_its_own():
    given = rows().double()
    for scaling in SCALINGS:
        units = table(given, scaling=scaling).units
        if scaling == "none":
            assert units is None
            continue
        rows_of = table(given, scaling=scaling).target.rows.numpy()
        assert np.array_equal(units(given.numpy()), rows_of)
        assert np.allclose(units.back(rows_of), given, rtol=1e-5)
        corners = np.stack([units(given.numpy().min(0)[None]), units(given.numpy().max(0)[None])]).astype(float)
        ratio = np.log(corners[1] - corners[0]).sum() - (given.amax(0) - given.amin(0)).log().sum()
        assert units.log_slope(corners[0]) == pytest.approx([float(ratio)], abs=1e-5)


def test_benign_rows_are_the_target_and_malignant_ones_its_outliers():
    found = BUILT["breast_cancer"]
    assert found.target.rows.shape == (357, 30)
    assert found.outliers.rows.shape == (212, 30)
    assert found.target.rows.mean(0).abs().max() < 1e-5
    assert float(found.outliers.rows.square().mean()) > 5


def test_a_side_has_a_density_where_its_law_is_known():
    assert BUILT["moons"].log_prob("source")(torch.zeros(3, 2)).dtype == torch.float64
    assert BUILT["checkerboard"].log_prob("target")(torch.tensor([[0.5, 0.5], [9.0, 9.0]])).tolist()[1] == -float("inf")
    assert BUILT["digits"].log_prob("target") is None
    assert BUILT["digits"].log_prob("source") is not None


# ---- Units.


def test_whole_levels_come_back_from_their_logits():
    found = DATASETS["digits"](alpha=0.05)
    assert found.target.rows.isfinite().all()
    levels = np.floor(found.units.back(found.target.rows.numpy()) + 1e-6)
    assert np.array_equal(levels, (BUILT["digits"].target.rows.numpy() + 1) * 8)
    assert torch.equal(DATASETS["digits"](alpha=0.05).target.rows, found.target.rows)


def test_the_slope_of_logits_is_that_of_differences():
    units, own = Logit(17, 0.05), np.random.default_rng(0).uniform(0, 17, (6, 3))
    x, h = units(own).astype(float), 1e-3
    up, down = (np.log((own + sign * h) / 17 * 0.9 + 0.05) - np.log(0.95 - (own + sign * h) / 17 * 0.9) for sign in (1, -1))
    assert np.allclose(units.log_slope(x), np.log((up - down) / (2 * h)).sum(1), atol=1e-4)


def test_a_gaussians_bits_per_dim_are_those_worked_out_by_hand():
    """Noise that is uniform over all levels costs log2(levels) bits, whatever the logit: p(k + u) = 1 / levels."""
    units = Logit(17, 0.05)
    own = np.random.default_rng(1).uniform(0, 17, (4000, 2))
    x = units(own).astype(float)
    # The law of x is known: the logistic function of it is uniform on (alpha, 1 - alpha).
    share = 1 / (1 + np.exp(-x))
    log_p = (np.log(share) + np.log1p(-share) - math.log(0.9)).sum(1)
    assert -(log_p + units.log_slope(x)) / (2 * math.log(2)) == pytest.approx(np.full(4000, math.log2(17)), abs=1e-6)
    # A Gaussian in x: log N(x) + sum log |dx / dk| by hand at k + u = 8.5, where x = 0 and dx / dk = 4 * 0.9 / 17.
    at = np.array([[8.5]])
    by_hand = -(norm.logpdf(0.0, 0.3, 2.0) + math.log(3.6 / 17)) / math.log(2)
    found = -(norm.logpdf(units(at), 0.3, 2.0).sum(1) + units.log_slope(units(at))) / math.log(2)
    assert found == pytest.approx([by_hand], abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1, 0.7, float("nan")])
def test_an_alpha_that_is_none_is_refused(alpha):
    with pytest.raises(ValueError, match=r"^alpha: .* must lie in \(0, 0.5\)"):
        DATASETS["digits"](alpha=alpha)
