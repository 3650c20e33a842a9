"""The weights of the ε, x_0 and v losses: each times its error is the divergence that the bound adds up."""

import math

import pytest
import torch

from ddpm_lib.bound import (
    density_decoder,
    error_ratio,
    loss_weight,
    reverse_step,
    reverse_variances,
    simple_loss,
    snr_weight,
    step_constant,
    step_term,
    training_weight,
)
from ddpm_lib.denoiser import prediction, target
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.oracle import GaussianOracle
from ddpm_lib.schedule import before, from_betas, linear
from tests.oracles import SHORT, randn, table

SCHEDULES = {**SHORT, "long": linear(), "to pure noise": from_betas([0.1, 0.5, 1.0])}


@pytest.mark.parametrize("variance", ["beta", "posterior", "table"])
@pytest.mark.parametrize("objective", ["eps", "x0", "v"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_each_term_is_a_weighted_error_and_a_constant(name, objective, variance):
    """L_{t-1} = w_t ‖target - answer‖² + d c_t, for any answer; at t = 1 the decoder's density in the KL's place."""
    schedule, d = SCHEDULES[name], 6
    variance = table(schedule) if variance == "table" else variance
    diffusion = GaussianDiffusion(schedule)
    steps = {1, 2, 3, schedule.T // 2, schedule.T} - {0}
    last = schedule.T if objective != "eps" or schedule.alpha_bar[-1] > 0 else schedule.T - 1
    for i in sorted(i for i in steps if i <= last):
        t = torch.full((5,), i)
        x0, eps, answer = (randn(5, d, seed=seed) for seed in (1, 2, 3))
        x_t = diffusion.marginal(x0, t).sample(eps)
        p = reverse_step(diffusion, x_t, prediction(objective, schedule, x_t, answer, t), t, variance)
        term = step_term(diffusion, x0, x_t, t, p) if i > 1 else density_decoder(x0, p)
        error = (target(objective, schedule, x0, eps, t) - answer).square().sum(1)
        weight, constant = loss_weight(objective, schedule, variance)[i], step_constant(schedule, variance)[i]
        torch.testing.assert_close(term, weight * error + d * constant, rtol=1e-9, atol=1e-12)


def test_trap_10_the_weights_of_the_noise_where_the_chain_ends_in_noise():
    """min(SNR, γ)/SNR goes to 1 as SNR goes to 0; the bound's weight is infinite there."""
    to_noise = SCHEDULES["to pure noise"]
    snr = to_noise.snr[1:-1]
    expected = [*(snr.clamp(max=5) / snr).tolist(), 1.0]
    assert training_weight("min-snr", "eps", to_noise)[1:].tolist() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=r"weighting: 'bound' weighs the noise infinitely"):
        training_weight("bound", "eps", to_noise)
    assert training_weight("bound", "v", to_noise).isfinite().all()


@pytest.mark.parametrize("name", SHORT)
def test_the_weights_have_the_papers_forms(name):
    s, later = SHORT[name], slice(2, None)
    sigma2 = reverse_variances(s, "beta")
    papers = s.beta**2 / (2 * sigma2 * s.alpha * (1 - s.alpha_bar))  # DDPM Eq. 12
    torch.testing.assert_close(loss_weight("eps", s)[1:], papers[1:], rtol=1e-11, atol=0)
    small = s.beta / (2 * s.alpha * (1 - before(s.alpha_bar)))
    torch.testing.assert_close(loss_weight("eps", s, "posterior")[later], small[later], rtol=1e-11, atol=0)
    by_snr = snr_weight(s)
    torch.testing.assert_close(loss_weight("x0", s, "posterior")[later], by_snr[later], rtol=1e-10, atol=0)
    assert by_snr[0] == step_constant(s)[0] == 0
    assert [loss_weight(objective, s)[0].item() for objective in ("eps", "x0", "v")] == [0, 0, 0]
    assert by_snr[1] == math.inf
    assert step_constant(s, "posterior")[later].tolist() == [0.0] * (s.T - 1)
    assert (step_constant(s, "beta")[later] > 0).all()


@pytest.mark.parametrize("name", SHORT)
def test_the_three_errors_are_one_up_to_a_factor(name):
    """‖x_0 - x̂_0‖² = ‖ε - ε̂‖² / SNR_t = (1 - ᾱ_t) ‖v - v̂‖² at one x_t."""
    s = SHORT[name]
    t = torch.arange(1, s.T + 1)
    x0, eps, guess = (randn(s.T, 3, seed=seed) for seed in (1, 2, 3))
    x_t = GaussianDiffusion(s).marginal(x0, t).sample(eps)
    seen = prediction("x0", s, x_t, guess, t)
    wanted = (x0 - guess).square().sum(1)
    for objective in ("x0", "eps", "v"):
        answer = target(objective, s, seen.x0, seen.eps, t)
        error = (target(objective, s, x0, eps, t) - answer).square().sum(1)
        torch.testing.assert_close(error_ratio(objective, s)[1:] * error, wanted, rtol=1e-10, atol=1e-12)


def test_the_weighted_simple_losses_are_one_loss():
    """d · simple loss · weight is L_{t-1} less its constant, whichever of the three a network answers."""
    s, d = SHORT["cosine"], 5
    oracle = GaussianOracle(s, randn(d), randn(d, seed=1) ** 2)
    t = torch.arange(1, s.T + 1)
    x0, eps = randn(s.T, d, seed=2), randn(s.T, d, seed=3)
    losses = []
    for objective in ("eps", "x0", "v"):

        def net(x_t, t, y, objective=objective):
            seen = oracle(x_t, t)
            return target(objective, s, seen.x0, seen.eps, t)

        loss = simple_loss(net, s, objective, x0, t, eps)
        losses.append(d * loss * loss_weight(objective, s)[1:])
    for other in losses[1:]:  # answers go through float32, as in training
        torch.testing.assert_close(losses[0], other, rtol=1e-4, atol=1e-7)
