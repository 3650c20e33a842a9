"""What every exact denoiser keeps to, whatever its data."""

import math

import pytest
import torch

from ddpm_lib.gaussian import GaussianDiffusion
from tests.oracles import ORACLES, SCHEDULE, STEPS


def noisy(oracle, t, seed=0):
    """x_t from the oracle's own data, (len(t), ...)."""
    x0 = oracle.sample(len(t), torch.Generator().manual_seed(seed)).double()
    return GaussianDiffusion(oracle.schedule).marginal(x0, t).draw(torch.Generator().manual_seed(seed + 1))


@pytest.mark.parametrize("name", ORACLES)
class TestContract:
    """Each promise, on each kind of data."""

    def test_x_t_is_made_of_the_x0_and_the_noise_that_are_seen(self, name):
        oracle, _ = ORACLES[name]
        x_t, seen = noisy(oracle, STEPS), oracle(noisy(oracle, STEPS), STEPS)
        back = GaussianDiffusion(SCHEDULE).marginal(seen.x0, STEPS).mean + seen.sigma * seen.eps
        torch.testing.assert_close(back, x_t, rtol=1e-12, atol=1e-12)

    def test_the_score_is_the_gradient_of_its_log_density(self, name):
        oracle, _ = ORACLES[name]
        x_t = noisy(oracle, STEPS).requires_grad_()
        (gradient,) = torch.autograd.grad(oracle.log_prob(x_t, STEPS).sum(), x_t)
        torch.testing.assert_close(oracle(x_t, STEPS).score, gradient, rtol=1e-9, atol=1e-9)

    def test_its_variance_is_the_slope_of_its_guess(self, name):
        """Var[x_0 | x_t] = (1-ᾱ_t) / √ᾱ_t · ∂E[x_0 | x_t] / ∂x_t, coordinate by coordinate."""
        oracle, shape = ORACLES[name]
        x_t, s = noisy(oracle, STEPS).requires_grad_(), SCHEDULE
        x0 = oracle(x_t, STEPS).x0.reshape(len(STEPS), -1)
        each = [torch.autograd.grad(x0[:, j].sum(), x_t, retain_graph=True)[0] for j in range(x0.shape[1])]
        slope = torch.stack([g.reshape(len(STEPS), -1)[:, j] for j, g in enumerate(each)], 1)
        factor = (s.one_minus_alpha_bar / s.alpha_bar.sqrt())[STEPS].unsqueeze(1)
        expected = (factor * slope).view(-1, *shape)
        torch.testing.assert_close(oracle.variance(x_t, STEPS), expected, rtol=1e-8, atol=1e-10)

    def test_an_answer_does_not_depend_on_its_neighbours(self, name):
        oracle, _ = ORACLES[name]
        x_t = noisy(oracle, STEPS)
        many, few = oracle(x_t, STEPS), oracle(x_t[2:4], STEPS[2:4])
        torch.testing.assert_close(many.x0[2:4], few.x0, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(many.eps[2:4], few.eps, rtol=1e-14, atol=1e-14)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_answers_come_in_the_dtype_of_x_t(self, name, dtype):
        oracle, _ = ORACLES[name]
        x_t = noisy(oracle, STEPS).to(dtype)
        rounded, exact = oracle(x_t, STEPS), oracle(x_t.double(), STEPS)
        close = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 2e-4, "atol": 2e-4}
        for field in ("x0", "eps", "sigma"):
            assert getattr(rounded, field).dtype == dtype
            if field != "eps" or dtype == torch.float32:
                torch.testing.assert_close(getattr(rounded, field).double(), getattr(exact, field), **close)
        assert oracle.log_prob(x_t, STEPS).dtype == oracle.variance(x_t, STEPS).dtype == dtype

    def test_it_draws_images_of_its_shape_from_its_own_density(self, name):
        """By E[x_0 | x_T]'s mean over q(x_t): the mean of what is drawn is the mean of what is seen."""
        oracle, shape = ORACLES[name]
        n = 4000
        t = torch.full((n,), 500)
        x0 = oracle.sample(n, torch.Generator().manual_seed(0)).double()
        assert x0.shape == (n, *shape)
        x_t = GaussianDiffusion(SCHEDULE).marginal(x0, t).draw(torch.Generator().manual_seed(1))
        left = x0 - oracle(x_t, t).x0
        assert (left.mean(0).abs() < 5 * left.std(0) / math.sqrt(n)).all()
        spread = left.square() - oracle.variance(x_t, t)
        assert (spread.mean(0).abs() < 5 * spread.std(0) / math.sqrt(n)).all()

    def test_it_runs_on_the_meta_device(self, name):
        oracle, shape = ORACLES[name]
        x_t, t = torch.empty(3, *shape, device="meta"), torch.tensor([1, 5, 9])
        seen = oracle(x_t, t)
        for answer in (seen.x0, seen.eps, oracle.variance(x_t, t)):
            assert (answer.device.type, answer.shape) == ("meta", x_t.shape)
        assert oracle.log_prob(x_t, t).shape == (3,)

    @pytest.mark.cuda
    def test_cuda_gives_what_the_cpu_gives(self, name):
        oracle, _ = ORACLES[name]
        x_t = noisy(oracle, STEPS)
        torch.testing.assert_close(oracle(x_t.cuda(), STEPS).x0.cpu(), oracle(x_t, STEPS).x0)

    def test_bad_input_is_named(self, name):
        oracle, shape = ORACLES[name]
        with pytest.raises(ValueError, match=r"t: expected steps in 1\.\.1000, got 0"):
            oracle(torch.zeros(1, *shape), torch.tensor([0]))
        with pytest.raises(ValueError, match="t: expected one step a sample"):
            oracle(torch.zeros(2, *shape), torch.tensor([3]))
        with pytest.raises(ValueError, match="x_t: expected a floating-point tensor"):
            oracle(torch.zeros(1, *shape, dtype=torch.int64), torch.tensor([3]))
