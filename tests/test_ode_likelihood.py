"""Likelihood by the probability-flow ODE against closed forms, its errors and how they fall."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from ddpm_lib.denoiser import Prediction
from ddpm_lib.guidance import ClassifierGuided
from ddpm_lib.oracle import EmpiricalOracle, GaussianOracle, MixtureOracle
from ddpm_lib.samplers import flow, flow_likelihood, heun
from ddpm_lib.samplers.drawing import seeded
from ddpm_lib.samplers.likelihood import _Way
from ddpm_lib.schedule import Schedule, cosine, linear
from tests.oracles import covariance, randn

F64 = torch.float64
SCHEDULE = linear()
GAUSSIAN = GaussianOracle(
    SCHEDULE, torch.tensor([0.3, -0.5], dtype=F64), torch.tensor([0.04, 0.3], dtype=F64)
)
APART = MixtureOracle(  # two bells that hardly meet
    SCHEDULE, torch.tensor([[-0.7, 0.1], [0.6, 0.2]], dtype=F64), torch.full((2,), 0.01, dtype=F64)
)
TOUCHING = MixtureOracle(
    SCHEDULE,
    torch.tensor([[-0.2, 0.1, 0.0], [0.2, -0.1, 0.3], [0.1, 0.3, -0.2]], dtype=F64),
    covariance(3, 3),
    torch.tensor([0.2, 0.5, 0.3], dtype=F64),
)
ORACLES = {"gaussian": GAUSSIAN, "apart": APART, "touching": TOUCHING}


@dataclass(frozen=True)
class WholeSteps:
    """An oracle that, like a network, is asked at whole steps only."""

    oracle: object

    @property
    def schedule(self):
        return self.oracle.schedule

    def __call__(self, x_t, t):
        return self.oracle(x_t, t)


@dataclass(frozen=True)
class Told:
    """A normal law about 0.5 y, like a network asked at whole steps, for the images of a class, or of none."""

    y: torch.Tensor | None = None
    schedule = SCHEDULE

    def given(self, y):
        return Told(y)

    def __call__(self, x_t, t):
        mean = torch.zeros(len(x_t), 1, dtype=F64) if self.y is None else 0.5 * self.y.unsqueeze(1)
        a = SCHEDULE.alpha_bar[t].unsqueeze(1)
        x0 = mean + 0.04 * a.sqrt() / (0.04 * a + 1 - a) * (x_t - a.sqrt() * mean)
        return Prediction(x0, x0, x0)


@dataclass(frozen=True)
class Answers:
    """x̂_0 = constant + slope · x_t, with both by the step."""

    schedule: Schedule
    constant: torch.Tensor
    slope: torch.Tensor

    def __call__(self, x_t, t):
        x0 = self.constant[t].unsqueeze(1) + self.slope[t].unsqueeze(1) * x_t
        return Prediction(x0, x0, x0)


@dataclass(frozen=True)
class Through:
    """A denoiser whose answer goes through a function of x̂_0 and x_t."""

    denoiser: object
    change: object
    schedule = SCHEDULE

    def __call__(self, x_t, t):
        x0 = self.change(self.denoiser(x_t, t).x0, x_t)
        return Prediction(x0, x0, x0)


def noised(oracle, n, t, seed=0):
    """States at step t, (n, d)."""
    x0 = oracle.sample(n, torch.Generator().manual_seed(seed))
    a, noise = SCHEDULE.alpha_bar[t].sqrt(), SCHEDULE.one_minus_alpha_bar[t].sqrt()
    return a * x0 + noise * randn(*x0.shape, seed=seed + 1)


def with_true_prior(found, oracle):
    """log p(x_t) where x_T has the data's own law instead of π."""
    d, T = found.x_T[0].numel(), oracle.schedule.T
    log_prior = -0.5 * (found.x_T.square().flatten(1).sum(1) + d * math.log(2 * math.pi))
    return found.log_prob - log_prior + oracle.log_prob(found.x_T, torch.full((len(found.x_T),), T))


def exact(oracle, x, t):
    return oracle.log_prob(x, torch.full((len(x),), t))


class TestAgainstClosedForms:
    @pytest.mark.parametrize("t", [1, 30, 600])
    @pytest.mark.parametrize("name", ORACLES)
    def test_it_is_the_density_of_x_t(self, name, t):
        oracle = ORACLES[name]
        x = noised(oracle, 4, t)
        found = flow_likelihood(oracle, x, t, tolerance=1e-7)
        torch.testing.assert_close(with_true_prior(found, oracle), exact(oracle, x, t), rtol=0, atol=1e-5)
        assert (found.error == 0).all()
        assert (found.questions > 10).all()

    @pytest.mark.parametrize("name", ORACLES)
    def test_from_a_standard_normal_x_T_it_is_the_data_density_up_to_the_signal_that_is_left(self, name):
        oracle = ORACLES[name]
        x = noised(oracle, 4, 1)
        found = flow_likelihood(oracle, x, tolerance=1e-6).log_prob
        assert (found - exact(oracle, x, 1)).abs().max() < 20 * SCHEDULE.alpha_bar[-1].sqrt()

    def test_a_density_has_the_mass_one(self):
        bells = MixtureOracle(SCHEDULE, torch.tensor([[-0.5], [0.4]], dtype=F64), torch.tensor([0.02, 0.05]))
        grid = torch.linspace(-2, 2, 41, dtype=F64).unsqueeze(1)
        density = flow_likelihood(bells, grid, tolerance=1e-6).log_prob.exp()
        assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1, abs=1e-4)

    def test_an_empirical_oracle_is_one_of_bumps(self):
        oracle = EmpiricalOracle(SCHEDULE, randn(6, 2))
        x = noised(oracle, 4, 100)
        found = flow_likelihood(oracle, x, 100, tolerance=1e-8)
        torch.testing.assert_close(with_true_prior(found, oracle), exact(oracle, x, 100), rtol=0, atol=1e-5)

    def test_each_image_is_of_its_own_class(self):
        x, y = torch.tensor([[0.2], [0.2], [0.2]], dtype=F64), torch.tensor([1, -1, 0])
        found = flow_likelihood(Told(), x, 1, y, tolerance=1e-5)
        a = SCHEDULE.alpha_bar[1]
        law = torch.distributions.Normal(0.5 * a.sqrt() * y, (0.04 * a + 1 - a).sqrt())
        torch.testing.assert_close(found.log_prob, law.log_prob(x[:, 0]), rtol=0, atol=0.03)
        without = flow_likelihood(Told(), x[:1], 1, tolerance=1e-5)
        torch.testing.assert_close(without.log_prob, found.log_prob[2:])
        ends = flow(Told(), found.x_T, 1000, 1, y, tolerance=1e-5)
        torch.testing.assert_close(ends, x, rtol=0, atol=1e-3)

    def test_a_classifiers_gradient_is_in_the_trace(self):
        """Guided by the exact classifier at scale 1 it is the density of the class."""
        means, var = torch.tensor([[-0.5], [0.4]], dtype=F64), torch.tensor([0.02, 0.05], dtype=F64)

        def log_prob(x_t, t):
            a = SCHEDULE.alpha_bar[t].unsqueeze(1)
            width = a * var + 1 - a
            logits = -0.5 * (x_t - a.sqrt() * means[:, 0]) ** 2 / width - 0.5 * width.log()
            return logits.log_softmax(1)[:, 1]

        guided = ClassifierGuided(MixtureOracle(SCHEDULE, means, var), log_prob, 1.0)
        only = MixtureOracle(SCHEDULE, means[1:], var[1:])
        x = torch.tensor([[-0.7], [-0.2], [0.3]], dtype=F64)
        found = flow_likelihood(guided, x, tolerance=1e-5)
        torch.testing.assert_close(found.log_prob, exact(only, x, 1), rtol=0, atol=0.02)

    @pytest.mark.parametrize(
        "schedule", [cosine(), linear().respace([5, 100, 400, 1000]), linear(20, 0.01, 0.5)]
    )
    def test_any_schedule_serves(self, schedule):
        oracle = replace(APART, schedule=schedule)
        x = oracle.sample(4, torch.Generator().manual_seed(0))
        found = flow_likelihood(oracle, x, tolerance=1e-8)
        torch.testing.assert_close(with_true_prior(found, oracle), exact(oracle, x, 1), rtol=0, atol=1e-5)


class TestConvergence:
    def test_the_error_falls_with_the_tolerance(self):
        x = noised(TOUCHING, 8, 1)
        errors = []
        for tolerance in (1e-3, 1e-5, 1e-7):
            found = flow_likelihood(TOUCHING, x, tolerance=tolerance)
            errors.append((with_true_prior(found, TOUCHING) - exact(TOUCHING, x, 1)).abs().max().item())
        assert errors[0] > 10 * errors[1] > 100 * errors[2], errors
        assert errors[1] < 3 * 100 * 1e-5

    def test_between_whole_steps_the_error_falls_as_the_square_of_the_steps_length(self):
        """x̂_0 is interpolated linearly in λ: on twice as many steps a quarter of the error is left."""
        x, errors, counts = noised(APART, 2, 1), [], [50, 100, 200]
        level = SCHEDULE.log_alpha_bar[1].item()
        for T in counts:  # levels evenly spaced in λ from step 1 to step 1000
            ends = SCHEDULE.snr[1].log(), SCHEDULE.snr[-1].log()
            log_snr = torch.linspace(ends[0].item(), ends[1].item(), T, dtype=F64)
            table = torch.cat([torch.zeros(1, dtype=F64), -torch.nn.functional.softplus(-log_snr)])
            assert table[1].item() == pytest.approx(level, rel=1e-9)
            coarse = WholeSteps(replace(APART, schedule=Schedule(table)))
            found = with_true_prior(flow_likelihood(coarse, x, tolerance=1e-8), coarse.oracle)
            errors.append((found - exact(APART, x, 1)).abs().mean().item())
        slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
        assert slope == pytest.approx(2, abs=0.1), (slope, errors)

    def test_on_the_steps_of_training_interpolating_costs_little(self):
        for oracle in (APART, TOUCHING):
            x = noised(oracle, 2, 1)
            whole, any_level = (
                flow_likelihood(denoiser, x, tolerance=1e-6).log_prob
                for denoiser in (WholeSteps(oracle), oracle)
            )
            assert ((whole - any_level).abs() / x.shape[1]).max() < 2e-3  # nats a coordinate

    def test_between_two_steps_the_answer_is_a_mean_weighed_in_the_level_at_the_same_scaled_state(self):
        schedule = linear(2, 0.3, 0.6)
        constant, slope = torch.tensor([0.0, 0.5, -0.3], dtype=F64), torch.tensor([0.0, 0.2, 0.7], dtype=F64)
        way = _Way(Answers(schedule, constant, slope), torch.zeros(1, 1, dtype=F64), 1, 2, None, 1e-3)
        ends, x = schedule.snr[1:].log() / 2, torch.tensor([[0.8], [-0.4]], dtype=F64)
        for part in (0.0, 0.25, 0.5, 1.0):
            level = ((1 - part) * ends[0] + part * ends[1]).item()
            scaled = x / torch.sigmoid(torch.tensor(2 * level, dtype=F64)).sqrt()
            both = [constant[k] + slope[k] * schedule.alpha_bar[k].sqrt() * scaled for k in (1, 2)]
            wanted = (1 - part) * both[0] + part * both[1]
            torch.testing.assert_close(way._between(level, x, 0), wanted, rtol=0, atol=1e-12)

    def test_the_error_is_the_standard_error_of_the_mean_over_the_probes(self):
        """In the plane with one bell, J is constant at a level and z'Jz is one of two numbers."""
        bell = MixtureOracle(
            SCHEDULE,
            torch.zeros(1, 2, dtype=F64),
            torch.tensor([[[0.3, 0.1], [0.1, 0.2]]], dtype=F64),
        )
        x = noised(bell, 1, 1)
        single = [
            flow_likelihood(bell, x, probes=1, seed=k, tolerance=1e-6).log_prob.item() for k in range(6)
        ]
        apart = max(single) - min(single)
        assert apart > 0.1
        errors = [flow_likelihood(bell, x, probes=2, seed=k, tolerance=1e-6).error.item() for k in range(6)]
        assert max(errors) == pytest.approx(apart / 2, rel=1e-3)  # two unlike numbers
        assert min(errors) == pytest.approx(0, abs=1e-6)  # two alike

    def test_questions_are_those_of_the_integrator(self):
        asked = []

        def counted(x0, x_t):
            asked.append(len(x_t))
            return x0

        way = Through(GAUSSIAN, counted)
        found = flow_likelihood(way, noised(GAUSSIAN, 1, 900), 900, tolerance=1e-3)
        assert found.questions.item() == len(asked) - 2  # but for the two that check the gradient

    def test_probes_estimate_the_trace_without_bias(self):
        """Over all signs the mean of z'Jz is the trace, so over many probes log p is the exact one."""
        x = noised(TOUCHING, 3, 1)
        whole = flow_likelihood(TOUCHING, x, tolerance=1e-5)
        estimated = flow_likelihood(TOUCHING, x, probes=400, tolerance=1e-5)
        off = (estimated.log_prob - whole.log_prob).abs() / estimated.error
        assert (off < 4).all(), off
        assert (estimated.error > 0).all()

    def test_where_coordinates_do_not_meet_any_signs_give_the_trace(self):
        x = noised(GAUSSIAN, 3, 1)
        whole, estimated = (flow_likelihood(GAUSSIAN, x, probes=n) for n in (0, 1))
        torch.testing.assert_close(estimated.log_prob, whole.log_prob, rtol=0, atol=1e-3)
        assert estimated.error.isnan().all()


class TestTheMap:
    def test_up_and_down_again_is_the_identity(self):
        x = noised(APART, 6, 1)
        up = flow(APART, x, 1, 1000, tolerance=1e-9)
        torch.testing.assert_close(flow(APART, up, 1000, 1, tolerance=1e-9), x, rtol=0, atol=1e-6)
        torch.testing.assert_close(flow(APART, x, 7, 7), x)

    def test_it_is_the_likelihoods_own(self):
        x = noised(APART, 3, 1)
        found = flow_likelihood(APART, x, tolerance=1e-8)
        torch.testing.assert_close(found.x_T, flow(APART, x, 1, 1000, tolerance=1e-8), rtol=0, atol=1e-5)

    def test_a_solver_on_many_steps_comes_to_the_same_place(self):
        x_T = randn(6, 2)
        *_, last = heun(APART, x_T)
        torch.testing.assert_close(flow(APART, x_T, 1000, 1), last.x_t, rtol=0, atol=1e-3)

    def test_in_one_dimension_it_keeps_the_order_and_the_ranks(self):
        bells = MixtureOracle(SCHEDULE, torch.tensor([[-0.5], [0.4]], dtype=F64), torch.tensor([0.02, 0.05]))
        x = noised(bells, 40, 1).sort(0).values
        up = flow(bells, x, 1, 1000)
        assert (up.diff(dim=0) > 0).all()

    def test_the_law_of_what_comes_down_is_the_datas(self):
        x = flow(GAUSSIAN, randn(100, 2), 1000, 1, tolerance=1e-3)
        a, noise = SCHEDULE.alpha_bar[1], SCHEDULE.one_minus_alpha_bar[1]
        z = (x - a.sqrt() * GAUSSIAN.mean) / (a * GAUSSIAN.var + noise).sqrt()
        assert z.mean(0).abs().max() < 4 / 10
        assert (z.var(0) - 1).abs().max() < 4 * (2 / 100) ** 0.5


class TestOneImageAtATime:
    def test_no_image_depends_on_its_neighbours(self):
        x = noised(TOUCHING, 3, 1)
        together = flow_likelihood(TOUCHING, x, probes=2, seed=5)
        alone = flow_likelihood(TOUCHING, x[:1], probes=2, seed=5)
        assert torch.equal(together.log_prob[:1], alone.log_prob)
        assert torch.equal(together.x_T[:1], alone.x_T)

    def test_each_image_has_the_signs_of_its_own_generator(self):
        x = noised(TOUCHING, 1, 1).expand(4, -1)
        found = flow_likelihood(TOUCHING, x, probes=1, tolerance=1e-3).log_prob
        way = _Way(TOUCHING, x, 1, SCHEDULE.T, None, 1e-3)
        for i, generator in enumerate(seeded(0, 4)):
            signs = 2 * torch.randint(2, (1, 3), generator=generator) - 1
            end, gained, _ = way.carried(i, signs.to(x))
            prior = -0.5 * (end.square().sum() + 3 * math.log(2 * math.pi))
            assert (prior + gained).item() == pytest.approx(found[i].item(), abs=1e-9)
        assert len(found.unique()) > 1

    def test_the_seed_decides_on_the_signs(self):
        x = noised(TOUCHING, 1, 1)
        one, same, other = (flow_likelihood(TOUCHING, x, probes=1, seed=seed).log_prob for seed in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    def test_shape_dtype_and_device_are_the_images(self):
        oracle = GaussianOracle(SCHEDULE, torch.zeros(1, 3, 3), torch.full((1, 3, 3), 0.2))
        x = torch.rand(2, 1, 3, 3)
        found = flow_likelihood(oracle, x, tolerance=1e-4)
        assert (found.x_T.shape, found.x_T.dtype) == (x.shape, torch.float32)
        assert (found.log_prob.shape, found.log_prob.dtype) == ((2,), F64)
        assert flow(oracle, x, 1, 1000, tolerance=1e-3).dtype == torch.float32
        numbers = MixtureOracle(SCHEDULE, torch.tensor([0.1, -0.4]), torch.tensor([0.1, 0.2]))
        assert flow_likelihood(numbers, torch.zeros(2)).x_T.shape == (2,)

    def test_nothing_is_asked_of_the_callers_gradients(self):
        x = noised(GAUSSIAN, 2, 1).requires_grad_()
        with torch.no_grad():
            found = flow_likelihood(GAUSSIAN, x)
        assert not found.log_prob.requires_grad
        assert not found.x_T.requires_grad
        assert x.grad is None
