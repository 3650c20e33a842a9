"""The law of the samples over data whose law is known: two mixtures and a finite set, with their exact denoisers.

Along five directions the samples' distribution function is compared with the exact one, by the test of Kolmogorov and
Smirnov at the level 1e-4 each. With 4,000 samples it refuses who is off by more than 0.036; so a law that is off by
0.055 along one of the directions is found with a chance of 99 %, which a test below shows.
"""

import math

import pytest
import torch
from scipy import stats

from ddpm_lib.oracle import EmpiricalOracle, MixtureOracle
from ddpm_lib.samplers import ancestral
from ddpm_lib.schedule import linear
from tests.oracles import WAYS

SCHEDULE, N, LEVEL = linear(), 4_000, 1e-4
MEANS = torch.tensor([[-0.8, 0.2], [0.8, -0.4]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MIXTURES = {
    "well separated": (MEANS, torch.tensor([0.01, 0.03], dtype=torch.float64)),
    "nearly touching": (0.3 * MEANS, torch.tensor([0.04, 0.02], dtype=torch.float64)),
}
POINTS = torch.cartesian_prod(*(torch.linspace(-0.9, 0.9, n, dtype=torch.float64) for n in (4, 3)))
DIRECTIONS = [
    torch.tensor([math.cos(a), math.sin(a)], dtype=torch.float64) for a in torch.arange(5) * math.pi / 5
]


def least_chance(x, means, variances):
    """Of the five tests, the least p-value: how likely the exact law is to lie this far off or farther."""

    def distribution(u):
        def along(values):
            z = (torch.as_tensor(values)[:, None] - means @ u) / variances.sqrt()
            return (WEIGHTS * torch.special.ndtr(z)).sum(1).numpy()

        return along

    return min(stats.kstest((x @ u).numpy(), distribution(u)).pvalue for u in DIRECTIONS)


def drawn(oracle, way, seed=0):
    sampler, options = WAYS[way]
    x_T = torch.randn(N, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    *_, end = sampler(oracle, x_T, generators=torch.Generator().manual_seed(seed + 1), **options)
    return end.x


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", MIXTURES)
def test_samples_of_a_mixture_follow_its_law(way, data):
    means, variances = MIXTURES[data]
    x = drawn(MixtureOracle(SCHEDULE, means, variances, WEIGHTS), way)
    assert least_chance(x, means, variances) > LEVEL


@pytest.mark.parametrize("way", WAYS)
def test_samples_of_a_finite_set_are_its_members_each_as_often(way):
    x = drawn(EmpiricalOracle(SCHEDULE, POINTS), way)
    distance, which = torch.cdist(x, POINTS).min(1)
    noise_left = (
        0.05 if way == "euler" else 1e-3
    )  # in log ᾱ its last step keeps some of the noise, which is 0.01
    assert distance.max() < noise_left  # the points are 0.6 apart and more
    counts = torch.bincount(which, minlength=len(POINTS)).numpy()
    assert stats.chisquare(counts).pvalue > LEVEL


@pytest.mark.parametrize("data", MIXTURES)
def test_the_test_finds_a_law_that_is_a_little_off(data):
    """Its power: one that is off by 0.055 along some direction is refused 50 times of 50, the exact one never."""
    means, variances = MIXTURES[data]
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        exact = MixtureOracle(SCHEDULE, means, variances, WEIGHTS).sample(N, generator)
        assert least_chance(exact, means, variances) > LEVEL
        other = MixtureOracle(SCHEDULE, means, variances, torch.tensor([0.355, 0.645], dtype=torch.float64))
        if data == "well separated":  # there the distribution functions are 0.055 apart between the two
            assert least_chance(other.sample(N, generator), means, variances) < LEVEL
        wide = MixtureOracle(SCHEDULE, means, 1.4 * variances, WEIGHTS).sample(N, generator)
        assert least_chance(wide, means, variances) < LEVEL


@pytest.mark.parametrize("data", MIXTURES)
def test_the_test_finds_a_variance_taken_for_a_standard_deviation(data):
    means, variances = MIXTURES[data]
    oracle = MixtureOracle(SCHEDULE, means, variances, WEIGHTS)
    x_T = torch.randn(N, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.Generator().manual_seed(1)
    *_, end = ancestral(oracle, x_T, variance=SCHEDULE.beta**2, generators=noise)
    assert least_chance(end.x, means, variances) < LEVEL
