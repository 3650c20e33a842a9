"""Noise schedules and the steps that samplers visit."""

import math

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_lib.schedule import SPACINGS, Schedule, constant_share, cosine, from_betas, linear, spaced_steps

SCHEDULES = [
    linear(),
    linear(7),
    cosine(),
    cosine(50),
    from_betas([0.1, 0.3, 1.0]),
    linear().respace([1, 40, 700]),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
class TestContract:
    """What every schedule promises."""

    def test_index_0_is_clean_data(self, schedule):
        assert schedule.alpha_bar[0] == 1
        assert schedule.alpha[0] == 1
        assert schedule.beta[0] == 0
        assert schedule.snr[0] == float("inf")
        assert schedule.steps[0] == 0

    def test_alpha_bar_falls(self, schedule):
        assert (schedule.alpha_bar.diff() < 0).all()
        assert (schedule.one_minus_alpha_bar.diff() > 0).all()

    def test_alpha_bar_is_the_product_of_alphas(self, schedule):
        torch.testing.assert_close(schedule.alpha.cumprod(0), schedule.alpha_bar, rtol=1e-12, atol=0)

    def test_signal_and_noise_share_the_variance(self, schedule):
        whole = torch.ones(schedule.T + 1, dtype=torch.float64)
        torch.testing.assert_close(schedule.signal**2 + schedule.sigma**2, whole, rtol=1e-14, atol=0)
        assert schedule.ends_in_noise == (schedule.signal[-1] == 0)

    def test_tables_are_float64_on_the_cpu_of_length_T_plus_1(self, schedule):
        for name in ("beta", "alpha", "alpha_bar", "beta_tilde", "snr", "signal", "sigma"):
            table = getattr(schedule, name)
            assert table.dtype == torch.float64
            assert table.device.type == "cpu"
            assert table.shape == (schedule.T + 1,)

    def test_posterior_variance_is_zero_at_the_first_step_and_below_beta(self, schedule):
        assert schedule.beta_tilde[1] == 0
        assert (schedule.beta_tilde[2:] > 0).all()
        assert (schedule.beta_tilde[1:] < schedule.beta[1:]).all()


def test_values_at_steps_are_shaped_for_images():
    s, t, x = linear(), torch.tensor([1, 1000, 7]), torch.zeros(3, 2, 4)
    assert torch.equal(s.at(s.beta, t, x), s.beta[t].float().view(3, 1, 1))
    assert torch.equal(s.at(s.beta, t.int(), x.double()), s.beta[t].view(3, 1, 1))
    by_pixel = torch.rand(1001, 2, 4, dtype=torch.float64)
    assert torch.equal(s.at(by_pixel, t, x), by_pixel[t].float())
    assert s.at(s.beta, t.to("meta"), x.to("meta")).shape == (3, 1, 1)
    assert s.at(s.beta, t, x.to("meta")).device.type == "meta"


def test_linear_is_the_papers():
    s = linear()
    assert (s.T, s.beta[1].item(), s.beta[1000].item()) == (
        1000,
        pytest.approx(1e-4, rel=1e-15),
        pytest.approx(0.02, rel=1e-13),
    )
    assert math.sqrt(s.alpha_bar[-1]) == pytest.approx(0.0063529, rel=1e-4)


def test_tables_agree_with_diffusers():
    theirs = diffusers.DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    torch.testing.assert_close(linear().alpha_bar[1:].float(), theirs.alphas_cumprod, rtol=1e-4, atol=0)
    theirs = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(cosine().beta[1:].float(), theirs.betas, rtol=1e-4, atol=1e-7)


def test_cosine_formula_is_for_alpha_bar():
    s, t = cosine(), 400
    f = [math.cos((x / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for x in (0, t)]
    assert s.alpha_bar[t].item() == pytest.approx(f[1] / f[0], rel=1e-12)


def test_trap_15_float64_tables_keep_the_first_steps_digits():
    exact = 1e-4
    assert linear().one_minus_alpha_bar[1].item() == pytest.approx(exact, rel=1e-15)
    in_float32 = 1 - linear().alpha_bar[1].float()
    assert abs(in_float32.item() / exact - 1) > 1e-4, (
        "in float32 four digits are lost: why tables are float64"
    )


def test_trap_4_a_respaced_beta_is_one_minus_the_ratio_of_alpha_bars():
    s, taus = linear(), [1, 40, 700]
    r = s.respace(taus)
    assert r.beta[2].item() == pytest.approx(1 - (s.alpha_bar[40] / s.alpha_bar[1]).item(), rel=1e-12)
    assert r.beta[2] > 5 * s.beta[40]
    assert r.steps.tolist() == [0, *taus]
    assert r.respace([2, 3]).steps.tolist() == [0, 40, 700], "respacing twice still names the training steps"


@pytest.mark.parametrize("spacing", SPACINGS)
@given(T=st.integers(1, 1200), share=st.floats(0, 1))
def test_spaced_steps_are_S_rising_steps_of_1_to_T(spacing, T, share):
    S = max(1, round(share * T))
    taus = linear(T).spaced(S, spacing).steps[1:]
    assert len(taus) == S
    assert taus[0] >= 1
    assert taus[-1] <= T
    assert (taus.diff() > 0).all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_trap_2_S_equal_T_is_the_full_chain(spacing):
    assert linear().spaced(1000, spacing).same_as(linear())


@pytest.mark.parametrize("S", [7, 13, 300, 334])
def test_trap_3_three_hundred_steps_are_three_hundred(S):
    for spacing in SPACINGS:
        assert linear().spaced(S, spacing).T == S
    for spacing in ("uniform", "trailing", "quadratic", "log-snr"):
        assert linear().spaced(S, spacing).steps[-1] == 1000


@pytest.mark.parametrize("T", [250, 1000])
def test_steps_spaced_in_log_snr_are_the_nearest_to_even_ones(T):
    schedule, S = linear(T), 12
    level = schedule.snr.log().tolist()
    wanted = np.linspace(level[1], level[T], S)
    nearest = [min(range(1, T + 1), key=lambda t: abs(level[t] - value)) for value in wanted]
    assert schedule.spaced(S, "log-snr").steps[1:].tolist() == nearest
    theirs = diffusers.DPMSolverMultistepScheduler(T, 1e-4, 0.02, use_lu_lambdas=True)
    theirs.set_timesteps(S)
    assert (
        np.abs(theirs.timesteps.flip(0).numpy() + 1 - nearest).max() <= 1
    )  # they take the nearest t, we the level


def test_steps_too_wide_for_even_log_snr_are_each_taken_once():
    assert cosine().spaced(12, "log-snr").steps[-4:].tolist() == [997, 998, 999, 1000]


@pytest.mark.parametrize("S", [1, 2, 5, 10, 50, 100, 500])
def test_leading_and_trailing_spacings_are_those_of_diffusers(S):
    for spacing in ("leading", "trailing"):
        theirs = diffusers.DDIMScheduler(1000, timestep_spacing=spacing)
        theirs.set_timesteps(S)
        assert (spaced_steps(1000, S, spacing) - 1).tolist() == theirs.timesteps.flip(0).tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear(0), "T: expected a whole number of steps >= 1, got 0"),
        (lambda: linear(10.5), "T: .* got 10.5"),
        (lambda: linear(10, 0.5, 0.1), "beta_1, beta_T: .* got 0.5 and 0.1"),
        (lambda: cosine(10, max_beta=1.0), "max_beta: .* got 0.008 and 1.0"),
        (lambda: from_betas([0.1, float("nan")]), "betas: expected"),
        (lambda: from_betas([]), "betas: expected"),
        (lambda: Schedule(torch.tensor([0.0, -0.6, -0.5])), "log_alpha_bar: expected .* strictly falling"),
        (lambda: Schedule(torch.tensor([-0.1, -0.5])), "log_alpha_bar: expected 0 at index 0"),
        (lambda: Schedule(torch.tensor([0.0, float("nan")])), "log_alpha_bar: expected"),
        (lambda: Schedule(torch.tensor([0.0])), "log_alpha_bar: expected a table of length"),
        (lambda: Schedule(torch.tensor([0.0, -0.5]), torch.tensor([0, 0])), "steps: expected 2 rising"),
        (lambda: linear().respace([]), "taus: expected"),
        (lambda: linear().respace([0, 5]), "taus: expected steps in 1..1000, got 0..5"),
        (lambda: linear().respace([5, 5]), "taus: expected strictly rising"),
        (lambda: linear().respace([0.5, 2]), "taus: .*integer"),
        (lambda: spaced_steps(1000, 1001), "S: expected a number of steps in 1..1000, got 1001"),
        (lambda: spaced_steps(1000, 10, "even"), "spacing: expected one of .* got 'even'"),
        (lambda: linear().spaced(1001, "log-snr"), "S: expected a number of steps in 1..1000, got 1001"),
        (lambda: constant_share().spaced(10, "log-snr"), r"spacing: .* where alpha_bar\[T\] = 0"),
        (lambda: spaced_steps(1000, 10, "log-snr"), "spacing: log-snr is for Schedule.spaced"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
