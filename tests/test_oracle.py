"""Exact denoisers against quadrature, in their limits, and through samplers."""

import math

import pytest
import torch
from scipy import stats

from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.oracle import EmpiricalOracle, GaussianOracle, MixtureOracle
from ddpm_lib.samplers import ancestral, ddim
from ddpm_lib.schedule import from_betas, linear
from tests.oracles import F64, ORACLES, SCHEDULE, STEPS, covariance, randn

TINY = from_betas([1e-10, 0.3, 1.0])


def numbers(*values):
    return torch.tensor(values, dtype=F64)


WEIGHTS, MEANS, VARIANCES = numbers(0.3, 0.5, 0.2), numbers(-0.8, 0.1, 0.9), numbers(0.01, 0.04, 0.0025)
MIXTURE = MixtureOracle(SCHEDULE, MEANS, VARIANCES, WEIGHTS)


def data_density(x):
    each = WEIGHTS * torch.exp(-0.5 * (x.unsqueeze(-1) - MEANS) ** 2 / VARIANCES)
    return (each / (2 * math.pi * VARIANCES).sqrt()).sum(-1)


@pytest.mark.parametrize("t", [1, 2, 5, 20, 100, 300, 600, 1000])
@pytest.mark.parametrize("x_t", [-3.0, -0.9, -0.3, 0.0, 0.47, 1.1, 2.0])
def test_the_mixtures_answer_is_bayes_rule_done_by_quadrature(t, x_t):
    """The trapezoid rule on a grid far finer than every bump: exact to rounding for such integrands."""
    bar = SCHEDULE.alpha_bar[t]
    grid = torch.linspace(-3.2, 3.2, 400_001, dtype=F64)
    log_weight = -0.5 * (x_t - bar.sqrt() * grid) ** 2 / SCHEDULE.one_minus_alpha_bar[t]
    most = (log_weight + data_density(grid).clamp(min=1e-300).log()).max()
    weight = (log_weight - most).exp() * data_density(grid)
    mass = weight.sum()
    mean = (weight * grid).sum() / mass
    noise = (weight * (x_t - bar.sqrt() * grid)).sum() / mass / SCHEDULE.one_minus_alpha_bar[t].sqrt()
    seen, steps = MIXTURE(numbers(x_t), torch.tensor([t])), torch.tensor([t])
    assert seen.x0.item() == pytest.approx(mean.item(), rel=1e-10, abs=1e-11)
    assert seen.eps.item() == pytest.approx(noise.item(), rel=1e-9, abs=1e-10)
    spread = (weight * (grid - mean) ** 2).sum() / mass
    assert MIXTURE.variance(numbers(x_t), steps).item() == pytest.approx(spread.item(), rel=1e-9)
    area = mass * (grid[1] - grid[0]) / (2 * math.pi * SCHEDULE.one_minus_alpha_bar[t]).sqrt()
    assert MIXTURE.log_prob(numbers(x_t), steps).item() == pytest.approx(
        (area.log() + most).item(), rel=1e-10, abs=1e-10
    )


@pytest.mark.parametrize("t", [0, 1, 30, 1000])
def test_a_density_has_mass_one(t):
    grid = torch.linspace(-12, 12, 200_001, dtype=F64)
    gaussian = GaussianOracle(SCHEDULE, numbers(0.4).squeeze(), numbers(0.09).squeeze())
    empirical = EmpiricalOracle(SCHEDULE, MEANS)
    for oracle in (MIXTURE, gaussian, empirical) if t else (MIXTURE, gaussian):
        mass = oracle.log_prob(grid, torch.full((len(grid),), t)).exp().sum() * (24 / 200_000)
        assert mass.item() == pytest.approx(1, rel=1e-12)


def test_at_step_0_the_log_density_is_the_datas_own():
    x = torch.linspace(-1.2, 1.2, 50, dtype=F64)
    zero = torch.zeros(50, dtype=torch.int64)
    torch.testing.assert_close(MIXTURE.log_prob(x, zero), data_density(x).log(), rtol=1e-12, atol=1e-12)
    full = MixtureOracle(SCHEDULE, randn(2, 3), covariance(2, 3), numbers(0.25, 0.75))
    x = randn(20, 3, seed=3)
    laws = [torch.distributions.MultivariateNormal(full.means[k], full.covariances[k]) for k in range(2)]
    expected = torch.stack([w.log() + law.log_prob(x) for w, law in zip(full.weights, laws, strict=True)])
    torch.testing.assert_close(full.log_prob(x, zero[:20]), expected.logsumexp(0), rtol=1e-12, atol=1e-12)
    half_sure = GaussianOracle(SCHEDULE, randn(4), numbers(1, 0, 1, 1))
    for no_density in (ORACLES["mixture, singular"][0], half_sure):
        with pytest.raises(ValueError, match=r"t: expected steps in 1\.\.1000"):
            no_density.log_prob(randn(1, 4), zero[:1])


def test_the_three_forms_of_a_covariance_agree():
    variances, x_t = randn(3, 2, 2, seed=4) ** 2, randn(8, 2, 2, seed=5)
    diagonal = MixtureOracle(SCHEDULE, randn(3, 2, 2), variances)
    full = MixtureOracle(SCHEDULE, randn(3, 2, 2), torch.diag_embed(variances.flatten(1)))
    round_ = MixtureOracle(SCHEDULE, randn(3, 2, 2), variances[:, 0, 0].clone())
    spelled = MixtureOracle(SCHEDULE, randn(3, 2, 2), variances[:, :1, :1].expand(3, 2, 2))
    for one, other in ((diagonal, full), (round_, spelled)):
        torch.testing.assert_close(one(x_t, STEPS).x0, other(x_t, STEPS).x0, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(one(x_t, STEPS).eps, other(x_t, STEPS).eps, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(one.variance(x_t, STEPS), other.variance(x_t, STEPS))
        torch.testing.assert_close(one.log_prob(x_t, STEPS), other.log_prob(x_t, STEPS))


def test_a_mixture_of_one_is_the_gaussian():
    mean, var, x_t = randn(2, 2), randn(2, 2, seed=1) ** 2, randn(8, 2, 2, seed=2)
    one = MixtureOracle(SCHEDULE, mean.unsqueeze(0), var.unsqueeze(0))
    gaussian = GaussianOracle(SCHEDULE, mean, var)
    torch.testing.assert_close(one(x_t, STEPS).x0, gaussian(x_t, STEPS).x0)
    torch.testing.assert_close(one.log_prob(x_t, STEPS), gaussian.log_prob(x_t, STEPS))
    torch.testing.assert_close(one.variance(x_t, STEPS), gaussian.variance(x_t, STEPS))


def test_one_number_stands_for_all_pixels():
    x_t = randn(8, 1, 2, 2, seed=2)
    one = GaussianOracle(SCHEDULE, numbers(0.3).squeeze(), numbers(0.2).squeeze())
    all_ = GaussianOracle(
        SCHEDULE, torch.full((1, 2, 2), 0.3, dtype=F64), torch.full((1, 2, 2), 0.2, dtype=F64)
    )
    for method in ("log_prob", "variance"):
        assert torch.equal(getattr(one, method)(x_t, STEPS), getattr(all_, method)(x_t, STEPS))
    assert torch.equal(one(x_t, STEPS).x0, all_(x_t, STEPS).x0)


def test_full_covariances_are_drawn_with_their_correlations():
    oracle, n = ORACLES["gaussian, full"][0], 40_000
    x = oracle.sample(n, torch.Generator().manual_seed(0)).flatten(1)
    wanted = oracle.covariances[0]
    spread = (wanted**2 + wanted.diagonal().outer(wanted.diagonal())) / n  # Wishart
    assert ((x.T.cov() - wanted).abs() < 5 * spread.sqrt()).all()


def test_components_are_drawn_by_their_weights():
    far = MixtureOracle(SCHEDULE, numbers(-10, 0, 10), numbers(0.1, 0.1, 0.1), WEIGHTS)
    n = 20_000
    x = far.sample(n, torch.Generator().manual_seed(0))
    counts = torch.stack([(x < -5).sum(), (x.abs() <= 5).sum(), (x > 5).sum()])
    assert ((counts / n - WEIGHTS).abs() < 5 * (WEIGHTS * (1 - WEIGHTS) / n).sqrt()).all()


def test_responsibilities_say_which_component_an_image_is_from():
    shares = MIXTURE.responsibilities(MEANS, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(shares.sum(1), torch.ones(3, dtype=F64))
    assert (shares.diagonal() > 0.99).all()
    late = MIXTURE.responsibilities(MEANS, torch.full((3,), 1000))
    torch.testing.assert_close(late, WEIGHTS.expand(3, 3), rtol=0.02, atol=0)


def test_the_empirical_answer_is_the_mixtures_of_points():
    data, x_t = randn(40, 2, 2), randn(8, 2, 2, seed=1)
    empirical = EmpiricalOracle(SCHEDULE, data)
    points = MixtureOracle(SCHEDULE, data, torch.zeros(40, dtype=F64))
    torch.testing.assert_close(empirical(x_t, STEPS).x0, points(x_t, STEPS).x0, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(empirical.log_prob(x_t, STEPS), points.log_prob(x_t, STEPS))


def test_the_mixtures_answer_tends_to_the_empirical_one_as_its_variance_shrinks():
    """The difference is of first order in the variance: a hundredth of it leaves a hundredth."""
    data, x_t, t = randn(40, 2, 2), randn(5, 2, 2, seed=1), torch.tensor([50, 100, 300, 700, 1000])
    limit = EmpiricalOracle(SCHEDULE, data)(x_t, t).x0
    off = [
        MixtureOracle(SCHEDULE, data, torch.full((40,), v, dtype=F64))(x_t, t).x0 - limit
        for v in (1e-5, 1e-7)
    ]
    torch.testing.assert_close(off[0] / 100, off[1], rtol=0.02, atol=1e-11)
    assert off[0].abs().max() > 1e-6


def test_chunks_change_memory_and_not_the_answer():
    data, x_t = randn(41, 2, 2), randn(8, 2, 2, seed=1)
    whole = EmpiricalOracle(SCHEDULE, data)
    for chunk in (1, 7, 41):
        parts = EmpiricalOracle(SCHEDULE, data, chunk)
        torch.testing.assert_close(parts(x_t, STEPS).x0, whole(x_t, STEPS).x0, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(parts.log_prob(x_t, STEPS), whole.log_prob(x_t, STEPS))
        torch.testing.assert_close(parts.variance(x_t, STEPS), whole.variance(x_t, STEPS))


def test_at_tiny_noise_the_answers_are_the_nearest_image_and_the_very_noise():
    """1 - ᾱ_1 = 1e-10: in plain arithmetic each weight would underflow."""
    data, t = randn(30, 1, 5, 5), torch.ones(30, dtype=torch.int64)
    eps = randn(30, 1, 5, 5, seed=1)
    x_t = GaussianDiffusion(TINY).marginal(data, t).sample(eps)
    for oracle in (EmpiricalOracle(TINY, data), MixtureOracle(TINY, data, torch.zeros(30, dtype=F64))):
        seen = oracle(x_t, t)
        torch.testing.assert_close(seen.x0, data, rtol=0, atol=1e-14)
        torch.testing.assert_close(seen.eps, eps, rtol=0, atol=1e-9)
        expected = -0.5 * (eps**2).flatten(1).sum(1) - 12.5 * math.log(2 * math.pi * 1e-10) - math.log(30)
        torch.testing.assert_close(oracle.log_prob(x_t, t), expected, rtol=1e-6, atol=0)


def test_far_from_all_data_the_answer_is_finite_and_the_nearest_image():
    data = randn(30, 4)
    x_t = torch.full((1, 4), 1e4, dtype=F64)
    nearest = data[(data - x_t).square().sum(1).argmin()]
    for oracle in (EmpiricalOracle(TINY, data), MixtureOracle(TINY, data, torch.zeros(30, dtype=F64))):
        torch.testing.assert_close(oracle(x_t, torch.tensor([1])).x0[0], nearest)


def test_where_alpha_bar_is_0_the_answer_is_the_datas_mean():
    data, t = randn(30, 4), torch.full((2,), 3)
    mixture = MixtureOracle(TINY, data[:3], torch.ones(3), numbers(0.5, 0.25, 0.25))
    x_t = randn(2, 4, seed=2)
    torch.testing.assert_close(EmpiricalOracle(TINY, data)(x_t, t).x0, data.mean(0).expand(2, 4))
    torch.testing.assert_close(mixture(x_t, t).x0, (mixture.weights @ data[:3]).expand(2, 4))
    torch.testing.assert_close(mixture(x_t, t).eps, x_t)


def exact_cdf(weights):
    def cdf(x):
        return sum(
            w * stats.norm.cdf(x, m, v**0.5)
            for w, m, v in zip(weights, MEANS.tolist(), VARIANCES.tolist(), strict=True)
        )

    return cdf


def drawn(oracle, sampler, *shape):
    """What a sampler makes of noise in float64, all of it from one generator."""
    generator = torch.Generator().manual_seed(1)
    x_T = torch.randn(shape, generator=generator, dtype=F64)
    *_, step = sampler(oracle, x_T, generators=generator)
    return step.x


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_samplers_return_the_mixtures_law(sampler):
    """Kolmogorov-Smirnov with n = 3000: 0.1 % level here; a share of 0.06 moved to another component is refused."""
    x = drawn(MIXTURE, sampler, 3000).numpy()
    assert stats.kstest(x, exact_cdf([0.3, 0.5, 0.2])).pvalue > 1e-3
    assert stats.kstest(x, exact_cdf([0.24, 0.56, 0.2])).pvalue < 1e-3


def test_ancestral_returns_the_set_that_was_learned_by_heart():
    """Each of eight images about equally often: chi-squared at the 0.1 % level, and none far from all."""
    data = randn(8, 1, 3, 3)
    x = drawn(EmpiricalOracle(linear(100, 1e-4, 0.15), data), ancestral, 800, 1, 3, 3)
    distance = torch.cdist(x.flatten(1), data.flatten(1))
    assert distance.min(1).values.max() < 1e-6
    counts = distance.argmin(1).bincount(minlength=8)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MixtureOracle(SCHEDULE, randn(3, 2), torch.ones(2)), r"covariances: .*shapes.*got \(2,\)"),
        (lambda: MixtureOracle(SCHEDULE, randn(3, 2), -torch.ones(3)), "covariances: .*>= 0.*got -1"),
        (lambda: MixtureOracle(SCHEDULE, randn(1, 2), randn(1, 2, 2)), "covariances: expected symmetric"),
        (
            lambda: MixtureOracle(SCHEDULE, randn(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])),
            r"covariances: .*>= 0.*got -(1|0\.99)",
        ),
        (
            lambda: MixtureOracle(SCHEDULE, randn(2, 2), torch.full((2,), float("nan"))),
            "covariances: .*>= 0.*got nan",
        ),
        (
            lambda: MixtureOracle(SCHEDULE, randn(2, 2), torch.ones(2), torch.tensor([0.5, 0.6])),
            "weights: expected 2 positive numbers of sum 1",
        ),
        (
            lambda: MixtureOracle(SCHEDULE, randn(2, 2), torch.ones(2), torch.tensor([1.0, 0.0])),
            "weights: expected 2 positive",
        ),
        (
            lambda: MIXTURE(randn(2, 3), torch.tensor([1, 2])),
            r"x_t: expected images of shape \(\), got \(3,\)",
        ),
        (lambda: EmpiricalOracle(SCHEDULE, torch.zeros(0, 2)), r"data: .*N >= 1, got \(0, 2\)"),
        (
            lambda: EmpiricalOracle(SCHEDULE, torch.zeros(4, 2, dtype=torch.uint8)),
            "data: expected floating-point images",
        ),
        (lambda: EmpiricalOracle(SCHEDULE, randn(4, 2), 0), "chunk: expected at least 1"),
        (
            lambda: EmpiricalOracle(SCHEDULE, randn(4, 2))(randn(2, 1), torch.tensor([1, 2])),
            r"x_t: expected images of shape \(2,\), got \(1,\)",
        ),
    ],
)
def test_bad_data_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
