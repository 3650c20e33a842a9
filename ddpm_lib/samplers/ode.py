"""Solvers of the probability-flow ODE: the deterministic way back, by fewer and better steps. One adds noise if asked.

In x̄ = x/√ᾱ and s = √((1-ᾱ)/ᾱ) the ODE is dx̄/ds = ε̂ (DDIM Eq. 14); in ℓ = -log ᾱ, the chain's own time, for which
dℓ = β dt, it is dx/dℓ = -(x - ε̂/√(1-ᾱ))/2 (Song et al. 2021, Eq. 13). DDIM with η = 0 is Euler's rule in the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_lib.denoiser import Denoiser, Prediction, check_sampler
from ddpm_lib.kernel import Generators
from ddpm_lib.samplers.chains import noise_weights
from ddpm_lib.samplers.walk import Walk, walk
from ddpm_lib.schedule import Schedule


def euler(
    denoiser: Denoiser, x_T: Tensor, schedule: Schedule | None = None, generators: Generators = None
) -> Walk:
    """Euler's rule in ℓ = -log ᾱ: x_s = x_t + (ℓ_t - ℓ_s)/2 · (x_t - ε̂/√(1-ᾱ_t)), Eq. (eq-euler-step). First order.

    x_T, schedule as in ``ancestral``; generators are not used, as there is no noise. Raises ValueError where ᾱ_T = 0.
    """
    schedule = _with_signal(schedule or denoiser.schedule)
    time, noise = (-schedule.log_alpha_bar).tolist(), schedule.sigma.tolist()

    def move(x_t: Tensor, seen: Prediction, i: int) -> Tensor:
        return x_t + (time[i] - time[i - 1]) / 2 * (x_t - seen.eps / noise[i])

    return walk(denoiser, x_T, schedule, move)


def heun(
    denoiser: Denoiser, x_T: Tensor, schedule: Schedule | None = None, generators: Generators = None
) -> Walk:
    """Heun's rule in x̄ and s, Eq. (eq-heun-step), Karras et al. 2022, algorithm 1. Second order.

    It takes the mean of the slopes at both ends. The last step, to s = 0, where no denoiser is asked, is Euler's. Two
    questions a step but in the last. Few steps that are even in t are too long in s where ᾱ_T is near 0: of ten with
    the cosine schedule the first goes from s = 20,000 to 6, half of it by the slope at its end, and misses the data.
    x_T, schedule, generators and errors as in ``euler``.
    """
    schedule = _with_signal(schedule or denoiser.schedule)
    signal, s = schedule.signal.tolist(), schedule.snr.rsqrt().tolist()
    steps = schedule.steps.tolist()

    def move(x_t: Tensor, seen: Prediction, i: int) -> Tensor:
        start, h = x_t / signal[i], s[i - 1] - s[i]
        x = signal[i - 1] * (start + h * seen.eps)
        if i == 1:
            return x
        ahead = denoiser(x, torch.full((len(x),), steps[i - 1])).eps
        return signal[i - 1] * (start + h / 2 * (seen.eps + ahead))

    return walk(denoiser, x_T, schedule, move)


def dpm_solver(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule | None = None,
    eta: float = 0.0,
    generators: Generators = None,
) -> Walk:
    """DPM-Solver++ (2M), Lu et al. 2022, algorithm 2: one question a step, second order in λ = ½ log SNR.

    x_s = √ᾱ_s D + √(1-ᾱ_s-σ²) (x_t - √ᾱ_t D)/√(1-ᾱ_t) + σ z, Eq. (eq-multistep-noisy), is DDIM's step with D for x̂_0;
    without noise it is Eq. (eq-multistep-step). D = x̂_0 + h_t/(2 h_before) (x̂_0 - x̂_0 before), from the last two
    predictions, the h being steps in λ; in the first step, and in the last, where λ becomes infinite, D is x̂_0.
    eta: σ = η √β̃_t as in ``ddim``; 1 makes it SDE-DPM-Solver++ (2M). The rest as in ``ddim`` and ``euler``.
    """
    schedule = _with_signal(schedule or denoiser.schedule)
    check_sampler(denoiser, schedule, None)  # whatever eta is: its mean is not the posterior's
    variances, direction = noise_weights(schedule, eta)
    signal, noise = schedule.signal.tolist(), schedule.sigma.tolist()
    half_log_snr = (schedule.snr.log() / 2).tolist()
    last: list[Tensor] = []

    def mean(x_t: Tensor, seen: Prediction, i: int) -> Tensor:
        d = seen.x0
        if 1 < i < schedule.T:
            h, h_before = half_log_snr[i - 1] - half_log_snr[i], half_log_snr[i] - half_log_snr[i + 1]
            d = d + h / (2 * h_before) * (d - last[0])
        last[:] = [seen.x0]
        ratio = direction[i] / noise[i]
        return ratio * x_t + (signal[i - 1] - signal[i] * ratio) * d

    return walk(denoiser, x_T, schedule, mean, variances, generators)


def _with_signal(schedule: Schedule) -> Schedule:
    if schedule.ends_in_noise:
        raise ValueError("schedule: expected alpha_bar[T] > 0 for an ODE solver, got 0; ddim can start there")
    return schedule
