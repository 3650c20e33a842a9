"""The Gaussian kernel against what defines it: Bayes by quadrature, the chain by composition, and diffusers."""

import math

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_lib.gaussian import GaussianDiffusion, Normal
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
def test_posterior_is_bayes_rule_done_by_quadrature(kernel, data):
    t = data.draw(st.integers(2, kernel.schedule.T))
    x0, x_t = data.draw(st.floats(-1, 1)), data.draw(st.floats(-2, 2))
    before = kernel.marginal(batch(x0), steps(t - 1))
    ends = [
        before.mean.item(),
        x_t / max(kernel.schedule.alpha[t].item(), 1e-3) ** 0.5,
    ]  # where x_0 and x_t point
    margin = 12 * before.var.sqrt().item()
    grid = torch.linspace(min(ends) - margin, max(ends) + margin, 200_001, dtype=torch.float64)
    column = grid.view(-1, 1, 1, 1)
    many = torch.full((len(grid),), t)
    log_weight = before.log_prob(column) + kernel.step(column, many).log_prob(torch.full_like(column, x_t))
    weight = (log_weight - log_weight.max()).exp().flatten()
    weight /= weight.sum()
    mean = (weight * grid).sum().item()
    var = (weight * (grid - mean) ** 2).sum().item()
    posterior = kernel.posterior(batch(x_t), batch(x0), steps(t))
    assert posterior.mean.item() == pytest.approx(mean, rel=1e-6, abs=1e-8)
    assert posterior.var.item() == pytest.approx(var, rel=1e-6)


def test_posterior_at_the_first_step_is_x0_itself():
    for kernel in KERNELS:
        posterior = kernel.posterior(batch(0.3), batch(-0.7), steps(1))
        assert posterior.mean.item() == pytest.approx(-0.7, rel=1e-12)
        assert posterior.var.item() == 0


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


def test_kl_of_two_normals_is_its_integral():
    p, q = Normal(batch(0.3), batch(0.5)), Normal(batch(-0.4), batch(1.3))
    grid = torch.linspace(-14, 14, 200001, dtype=torch.float64).view(-1, 1, 1, 1)
    integral = (p.log_prob(grid).exp() * (p.log_prob(grid) - q.log_prob(grid))).sum() * (28 / 200000)
    assert GaussianDiffusion.kl(p, q).item() == pytest.approx(integral.item(), rel=1e-9)
    assert GaussianDiffusion.kl(p, p).item() == 0


def test_prior_term_of_the_linear_schedule_is_small_for_real_digits():
    from ddpm_lib import data

    kernel = KERNELS[0]
    x0 = data.to_unit(data.mnist5k("test").pixels).double()
    t = torch.full((len(x0),), 1000)
    nats = kernel.kl(kernel.marginal(x0, t), kernel.prior(x0))
    assert 1e-6 < nats.mean().item() / 784 / math.log(2) < 1e-4, "trap 15: in bits a dimension"


def test_samples_have_the_marginals_moments():
    kernel, t = KERNELS[0], steps(300).expand(200_000)
    x0 = torch.full((200_000, 1, 1, 1), 0.8)
    q = kernel.marginal(x0, t)
    x = q.sample(torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)))
    assert x.mean().item() == pytest.approx(q.mean[0].item(), abs=5 * math.sqrt(q.var[0].item() / 200_000))
    assert x.var().item() == pytest.approx(q.var[0].item(), rel=5 * math.sqrt(2 / 200_000))


def test_errata_uniform_noise_settles_elsewhere():
    """With rand for randn the chain's stationary law is not N(0, 1): mean and variance as printed in the errata."""
    beta, generator = 0.035, np.random.default_rng(0)
    x = np.zeros(200_000)
    for _ in range(400):
        x = math.sqrt(1 - beta) * x + beta**0.5 * generator.random(x.shape)
    assert abs(x.mean() - math.sqrt(beta) / 2 / (1 - math.sqrt(1 - beta))) < 0.01
    assert x.var() == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("method", ["step", "marginal", "posterior"])
def test_results_keep_the_images_dtype(dtype, method):
    x, t = torch.zeros(2, 1, 3, 3, dtype=dtype), steps(1, 5)
    normal = getattr(KERNELS[0], method)(*[x] * (2 if method == "posterior" else 1), t)
    assert normal.mean.dtype == normal.var.dtype == dtype
    assert normal.mean.shape == x.shape


@pytest.mark.parametrize(
    ("method", "t", "words"),
    [
        ("step", [0, 5], r"t: expected steps in 1\.\.1000, got 0\.\.5"),
        ("marginal", [-1, 5], r"t: expected steps in 0\.\.1000, got -1\.\.5"),
        ("marginal", [3, 1001], r"t: expected steps in 0\.\.1000, got 3\.\.1001"),
        ("posterior", [0, 5], r"t: expected steps in 1\.\.1000"),
        ("marginal", [1.0, 2.0], "t: expected an integer tensor of steps, got torch.float32"),
        ("marginal", [1, 2, 3], r"t: expected one step a sample, shape \(2,\), got \(3,\)"),
    ],
)
def test_bad_steps_are_named(method, t, words):
    x = torch.zeros(2, 1, 3, 3)
    with pytest.raises(ValueError, match=words):
        getattr(KERNELS[0], method)(*[x] * (2 if method == "posterior" else 1), torch.tensor(t))


def test_bad_images_are_named():
    with pytest.raises(ValueError, match=r"x0: expected a floating-point tensor, got torch\.uint8"):
        KERNELS[0].marginal(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), steps(1))
    with pytest.raises(
        ValueError, match=r"x0: expected the shape of x_t, \(1, 1, 2, 2\), got \(1, 1, 3, 3\)"
    ):
        KERNELS[0].posterior(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 3), steps(1))
