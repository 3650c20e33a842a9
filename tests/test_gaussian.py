"""The Gaussian kernel in numbers: Bayes by quadrature, the chain by composition, and diffusers."""

import math

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.schedule import cosine, from_betas, linear

KERNELS = [
    GaussianDiffusion(s) for s in (linear(), cosine(), linear(10, 0.01, 0.3), from_betas([0.2, 0.5, 1.0]))
]


def batch(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def steps(*values):
    return torch.tensor(values)


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_more_step_on_the_marginal_is_the_next_marginal(kernel):
    t = torch.arange(1, kernel.schedule.T + 1)
    x0 = torch.randn(len(t), 1, 2, 2, dtype=torch.float64)
    before, after = kernel.marginal(x0, t - 1), kernel.marginal(x0, t)
    step = kernel.step(before.mean, t)
    retained = kernel.schedule.at(kernel.schedule.alpha, t, x0)
    torch.testing.assert_close(step.mean, after.mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(retained * before.var + step.var, after.var, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kernel", KERNELS)
@given(data=st.data())
def test_posteriors_mean_and_variance_are_those_of_bayes_rule_done_by_quadrature(kernel, data):
    t = data.draw(st.integers(2, kernel.schedule.T))
    x0, x_t = data.draw(st.floats(-1, 1)), data.draw(st.floats(-2, 2))
    before = kernel.marginal(batch(x0), steps(t - 1))
    alpha = max(kernel.schedule.alpha[t].item(), 1e-3)  # where it is 0, x_t says nothing and points nowhere
    ends = [before.mean.item(), x_t / alpha**0.5]  # where x_0 and x_t point
    margin = 12 * before.var.sqrt().item()
    grid = torch.linspace(min(ends) - margin, max(ends) + margin, 20_001, dtype=torch.float64)
    column = grid.view(-1, 1, 1, 1)
    many = torch.full((len(grid),), t)
    log_weight = before.log_prob(column) + kernel.step(column, many).log_prob(torch.full_like(column, x_t))
    weight = (log_weight - log_weight.max()).exp().flatten()
    weight /= weight.sum()
    mean = (weight * grid).sum().item()
    var = (weight * (grid - mean) ** 2).sum().item()
    posterior = kernel.posterior(batch(x_t), batch(x0), steps(t))
    assert posterior.mean.item() == pytest.approx(mean, rel=1e-10, abs=1e-10 * var**0.5)
    assert posterior.var.item() == pytest.approx(var, rel=1e-10, abs=0)


def test_errata_the_posteriors_coefficient_has_alpha_not_alpha_bar():
    s = linear()
    on_xt = KERNELS[0].posterior(batch(1.0), batch(0.0), steps(50)).mean.item()
    right = (s.alpha[50].sqrt() * (1 - s.alpha_bar[49]) / (1 - s.alpha_bar[50])).item()
    wrong = (s.alpha_bar[50].sqrt() * (1 - s.alpha_bar[49]) / (1 - s.alpha_bar[50])).item()
    assert on_xt == pytest.approx(right, rel=1e-12)
    assert abs(on_xt - wrong) > 0.01


def test_posterior_agrees_with_diffusers():
    kernel = KERNELS[0]
    theirs = diffusers.DDPMScheduler(
        1000, beta_start=1e-4, beta_end=0.02, clip_sample=False, prediction_type="sample"
    )
    theirs.alphas_cumprod = kernel.schedule.alpha_bar[1:]  # theirs are float32: 1e-4 off at t = 1
    theirs.set_timesteps(1000)
    x_t, x0 = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
    for t in (2, 3, 400, 1000):
        ours = kernel.posterior(x_t, x0, steps(t))
        sampled = theirs.step(x0, t - 1, x_t, generator=torch.Generator().manual_seed(t)).prev_sample
        noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
        torch.testing.assert_close(ours.sample(noise), sampled, rtol=1e-9, atol=1e-9)


def test_prior_term_of_the_linear_schedule_is_small_for_real_digits():
    from ddpm_lib import data

    kernel = KERNELS[0]
    x0 = data.to_unit(data.mnist5k("test").pixels).double()
    t = torch.full((len(x0),), 1000)
    nats = kernel.kl(kernel.marginal(x0, t), kernel.prior(x0))
    assert 1e-6 < nats.mean().item() / 784 / math.log(2) < 1e-4, "trap 15: in bits a dimension"


def test_errata_uniform_noise_settles_elsewhere():
    """With rand for randn the chain's stationary law is not N(0, 1): mean and variance as printed in the errata."""
    beta, generator = 0.035, np.random.default_rng(0)
    x = np.zeros(200_000)
    for _ in range(400):
        x = math.sqrt(1 - beta) * x + beta**0.5 * generator.random(x.shape)
    assert abs(x.mean() - math.sqrt(beta) / 2 / (1 - math.sqrt(1 - beta))) < 0.01
    assert x.var() == pytest.approx(1 / 12, rel=0.02)
