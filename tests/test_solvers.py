"""Deterministic samplers against the exact flow: their orders, and inversion."""

import math

import numpy as np
import pytest
import torch

from ddpm_lib.oracle import GaussianOracle, MixtureOracle
from ddpm_lib.samplers import ddim, ddim_inversion, dpm_solver, euler, heun, sample, slerp
from ddpm_lib.schedule import Schedule, constant_share, linear, spaced_steps

SCHEDULE = linear()
MEAN = torch.tensor([0.3, -0.5], dtype=torch.float64)
VAR = torch.tensor([0.04, 0.3], dtype=torch.float64)
GAUSSIAN = GaussianOracle(SCHEDULE, MEAN, VAR)
MIXTURE = MixtureOracle(
    SCHEDULE,
    torch.tensor([[-0.6, 0.1], [0.4, 0.2]], dtype=torch.float64),
    torch.full((2,), 0.05, dtype=torch.float64),
    torch.tensor([0.3, 0.7], dtype=torch.float64),
)
X_T = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def at_step_one(solver, oracle, S, spacing="uniform", schedule=SCHEDULE):
    """The state that S steps of a solver give at t = 1: the last step, to 0, is Euler's for all of them."""
    steps = list(solver(oracle, X_T, schedule.respace(spaced_steps(schedule.T, S, spacing))))
    assert steps[-1].t == 1
    return steps[-1].x_t


def exact_flow(oracle, x_T, start, end):
    """Where the probability-flow ODE of Gaussian data takes x_T: x̄ keeps its number of standard deviations."""
    (a, noise), (b, less) = (
        (SCHEDULE.alpha_bar[t], SCHEDULE.one_minus_alpha_bar[t] / SCHEDULE.alpha_bar[t]) for t in (start, end)
    )
    spread = ((oracle.var + less) / (oracle.var + noise)).sqrt()
    return b.sqrt() * (oracle.mean + (x_T / a.sqrt() - oracle.mean) * spread)


@pytest.mark.parametrize("oracle", ["gaussian", "mixture"])
@pytest.mark.parametrize(("solver", "order"), [(ddim, 1), (euler, 1), (heun, 2), (dpm_solver, 2)])
def test_a_solvers_error_falls_with_its_order(solver, order, oracle):
    oracle = {"gaussian": GAUSSIAN, "mixture": MIXTURE}[oracle]
    exact = exact_flow(GAUSSIAN, X_T, 1000, 1) if oracle is GAUSSIAN else at_step_one(heun, MIXTURE, 1000)
    counts = [63, 125, 250, 500] if order == 1 else [63, 125, 250]
    errors = [(at_step_one(solver, oracle, S) - exact).square().mean().sqrt().item() for S in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.25 if order == 1 else 0.45), errors


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver, 2)])
def test_the_law_that_a_noisy_sampler_ends_in_is_as_near_as_its_order_says(sampler, order, eta):
    """Over normal data all is linear, so the variance at t = 1 is known exactly, with no samples."""
    counts, ends = (40, 80, 160, 320), SCHEDULE.snr[[1, -1]].log().tolist()
    errors = []
    for S in counts:
        log_snr = torch.linspace(*ends, S, dtype=torch.float64)
        schedule = Schedule(torch.cat([torch.zeros(1), -torch.nn.functional.softplus(-log_snr)]))
        spread = schedule.alpha_bar * 0.3 + schedule.one_minus_alpha_bar
        errors.append(abs(variance_at_step_one(sampler, schedule, eta) - spread[1]).item())
    slope = -np.polyfit(np.log(np.array(counts) - 1), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.1), errors


def variance_at_step_one(sampler, schedule, eta, var=0.3):
    """From the start and the fresh noise of each step: what is left at the end of a push of 1 in its place.

    All images of the batch get the same noise. Image 0 is pushed at the start, image j after step j, the last never.
    """
    n, zeros = schedule.T, torch.zeros(schedule.T + 1, 1, dtype=torch.float64)
    oracle, x_T = GaussianOracle(schedule, zeros[0], zeros[0] + var), zeros.clone()
    x_T[0] = 1
    same = [torch.Generator().manual_seed(0) for _ in range(n + 1)]
    way = sampler(oracle, x_T, schedule, eta=eta, generators=same)
    step = next(way)
    for j in range(1, n):
        pushed = step.x.clone()
        pushed[j] += 1
        step = way.send(pushed)
    assert step.t == schedule.steps[1]
    left = (step.x_t[:-1] - step.x_t[-1])[:, 0]
    start = schedule.alpha_bar[-1:] * var + schedule.one_minus_alpha_bar[-1:]
    return (torch.cat([start, eta**2 * schedule.beta_tilde[2:].flip(0)]) * left**2).sum()


def test_heun_on_all_steps_is_the_exact_flow_of_gaussian_data():
    torch.testing.assert_close(
        at_step_one(heun, GAUSSIAN, 1000), exact_flow(GAUSSIAN, X_T, 1000, 1), rtol=0, atol=1e-4
    )


def test_a_second_order_solver_is_nearer_with_fewer_questions():
    exact = exact_flow(GAUSSIAN, X_T, 1000, 1)

    def error(solver, S):
        return (at_step_one(solver, GAUSSIAN, S) - exact).square().mean().sqrt()

    assert error(heun, 100) < error(ddim, 500) / 2  # 199 questions against 500


def test_inversion_returns_to_the_start_at_first_order():
    x_0 = GAUSSIAN.sample(64, torch.Generator().manual_seed(1))
    errors, counts = [], [50, 100, 200, 400]
    for S in counts:
        schedule = SCHEDULE.respace(spaced_steps(1000, S))
        *_, up = ddim_inversion(GAUSSIAN, x_0, schedule)
        assert (up.t, up.t_prev) == (schedule.steps[-2], 1000)
        *_, down = ddim(GAUSSIAN, up.x, schedule)
        errors.append((down.x - x_0).abs().mean().item())
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(1, abs=0.15)


def test_slerp_keeps_the_variance_of_noise():
    a, b = torch.randn(2, 4, 1, 50, 50)
    assert slerp(a, b, 0.5).var().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slerp(a, a, 0.3), a)


def test_a_solver_that_needs_a_signal_says_so():
    oracle = GaussianOracle(constant_share(10), MEAN, VAR)
    with pytest.raises(ValueError, match=r"eta: expected a number in \[0, 1\], got 1.5"):
        next(dpm_solver(GAUSSIAN, X_T, eta=1.5))
    for solver in (euler, heun, dpm_solver):
        with pytest.raises(ValueError, match=r"schedule: expected alpha_bar\[T\] > 0"):
            next(solver(oracle, X_T))


@pytest.mark.parametrize("solver", [ddim, euler, heun, dpm_solver])
def test_states_on_the_way_are_kept_when_asked_for(solver):
    shape = (3, 2)
    states = sample(GAUSSIAN, shape, solver, steps=10, return_every=4)
    assert states.shape == (4, *shape)  # the noise, steps 4 and 8, and the end
    torch.testing.assert_close(states[-1], sample(GAUSSIAN, shape, solver, steps=10))
    assert math.isclose(states[0].std().item(), 1, abs_tol=0.7)
    with pytest.raises(ValueError, match="return_every: expected a number of steps >= 1, got 0"):
        sample(GAUSSIAN, shape, solver, steps=10, return_every=0)
