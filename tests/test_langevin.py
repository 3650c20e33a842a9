"""Langevin dynamics against its exact law over Gaussian data, where each move is linear."""

import pytest
import torch

from ddpm_lib.oracle import GaussianOracle, MixtureOracle
from ddpm_lib.samplers import ancestral, annealed_langevin, ddim, langevin, predictor_corrector, seeded
from ddpm_lib.schedule import linear, spaced_steps

SCHEDULE = linear()
MEAN = torch.tensor([0.3, -0.5], dtype=torch.float64)
VAR = torch.tensor([0.04, 0.3], dtype=torch.float64)
ORACLE = GaussianOracle(SCHEDULE, MEAN, VAR)
N = 20_000


def noise(n=N, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(steps):
    *_, step = steps
    return step.x


def law_at(t):
    """Mean and variance of q(x_t)."""
    bar = SCHEDULE.alpha_bar[t]
    return bar.sqrt() * MEAN, bar * VAR + SCHEDULE.one_minus_alpha_bar[t]


@pytest.mark.parametrize("size", [0.05, 0.5])
def test_the_moves_law_is_biased_by_what_the_closed_form_says(size):
    """x ← x - a/(2v)(x - m) + √a z has the variance v / (1 - a/(4v)) when it stands still."""
    t = 300
    mean, var = law_at(t)
    a = size * SCHEDULE.one_minus_alpha_bar[t]
    x = last(langevin(ORACLE, mean + noise() * var.sqrt(), t, 200, size, torch.Generator().manual_seed(1)))
    wanted = var / (1 - a / (4 * var))
    assert ((x.mean(0) - mean).abs() < 5 * (wanted / N).sqrt()).all()
    assert ((x.var(0) / wanted - 1).abs() < 5 * (2 / N) ** 0.5).all()


def test_annealed_langevin_finds_both_modes_in_their_proportion():
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-0.7], [0.7]], dtype=torch.float64)
    oracle = MixtureOracle(SCHEDULE, means, torch.full((2,), 0.01, dtype=torch.float64), weights)
    schedule = SCHEDULE.respace(spaced_steps(1000, 50))
    n = 4_000
    x_T = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = last(annealed_langevin(oracle, x_T, schedule, 20, generators=torch.Generator().manual_seed(1)))
    left = (x < 0).double().mean().item()
    assert left == pytest.approx(0.3, abs=0.05)
    # without the way down the noise levels, the moves stay in the mode where they begin
    start = torch.full((n, 1), 0.7, dtype=torch.float64)
    stuck = last(langevin(oracle, start, 1, 50, 0.5, torch.Generator().manual_seed(1)))
    assert (stuck > 0).all()


def test_annealing_carries_down_the_noise_that_the_closed_form_says():
    """Where the data have no width, each level multiplies the noise's share by a ratio of SNRs, Eq. (eq-surplus)."""
    data = GaussianOracle(SCHEDULE, torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    schedule, size = SCHEDULE.respace(spaced_steps(1000, 12)), 0.6
    share = 1.0  # of the variance that the noise should have, at the state that each level's last move starts from
    for step in annealed_langevin(data, noise(), schedule, 1, size, torch.Generator().manual_seed(1)):
        wanted = SCHEDULE.one_minus_alpha_bar[step.t] * share
        assert ((step.x_t.var(0) / wanted - 1).abs() < 5 * (2 / N) ** 0.5).all()
        share = ((1 - size / 2) ** 2 * share + size) * SCHEDULE.snr[step.t_prev] / SCHEDULE.snr[step.t]


def test_a_corrector_mends_the_law_of_a_coarse_predictor():
    """Where DDIM's steps are long the states on the way have too little variance, of broad data above all."""
    schedule, at = SCHEDULE.respace(spaced_steps(1000, 4)), 334

    def wrong(steps):
        (state,) = (step.x for step in steps if step.t_prev == at)
        return abs(state[:, 1].var() / law_at(at)[1][1] - 1)

    generator = torch.Generator().manual_seed(1)
    mended = predictor_corrector(ORACLE, noise(), schedule, ddim, moves=40, size=0.05, generators=generator)
    assert wrong(mended) < wrong(ddim(ORACLE, noise(), schedule)) / 4


@pytest.mark.parametrize(
    "way", [annealed_langevin, predictor_corrector, lambda *a, **k: langevin(*a[:2], 500, 5, **k)]
)
def test_trap_18_no_sample_depends_on_its_neighbours(way):
    schedule = SCHEDULE.respace(spaced_steps(1000, 6))
    many = noise(5)
    others = torch.cat([many[:2], 100 * many[2:]])
    alone = last(way(ORACLE, many[:2], schedule, generators=seeded(3, 2)))
    among = last(way(ORACLE, others, schedule, generators=seeded(3, 5)))
    torch.testing.assert_close(among[:2], alone, rtol=1e-12, atol=1e-12)


def test_a_corrector_after_the_ancestral_step_leaves_the_last_step_alone():
    schedule = SCHEDULE.respace(spaced_steps(1000, 5))
    steps = list(predictor_corrector(ORACLE, noise(4), schedule, generators=seeded(0, 4)))
    assert [step.t_prev for step in steps][-1] == 0
    free = list(ancestral(ORACLE, steps[-1].x_t, SCHEDULE.respace([1])))
    torch.testing.assert_close(steps[-1].x, free[0].x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"moves": 0}, "moves: expected a number >= 1, got 0"),
        ({"size": 4.0}, r"size: expected a number in \(0, 4\)"),
    ],
)
def test_bad_input_is_named(options, words):
    for way in (annealed_langevin, predictor_corrector):
        with pytest.raises(ValueError, match=words):
            next(way(ORACLE, noise(2), **options))
