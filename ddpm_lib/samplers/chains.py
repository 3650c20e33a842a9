"""The reverse chain of DDPM, the family of DDIM that holds it, and DDIM run forwards."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_lib._checks import check_same_shape
from ddpm_lib.denoiser import Denoiser, Prediction, check_sampler
from ddpm_lib.gaussian import GaussianDiffusion, reverse_variances
from ddpm_lib.kernel import Generators
from ddpm_lib.samplers.walk import Step, Walk, walk
from ddpm_lib.schedule import Schedule, before


def ancestral(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule | None = None,
    variance: str | Tensor = "posterior",
    generators: Generators = None,
) -> Walk:
    """DDPM's sampler, DDPM algorithm 2: x_{t-1} ~ N(μ̃_t(x_t, x̂_0), σ_t²), Eq. (eq-reverse-step).

    In terms of the score the mean is Eq. (eq-step-from-score).

    x_T: (B, ...) noise from π. schedule: the steps to visit, all of the denoiser's unless given.
    variance: σ_t² = β̃_t ("posterior"), β_t ("beta") or a learned table, see ``gaussian.reverse_variances``. The last
    step adds no noise.
    """
    schedule = schedule or denoiser.schedule
    on_x0, on_xt = (weights.tolist() for weights in GaussianDiffusion(schedule).posterior_weights)

    def mean(x_t: Tensor, seen: Prediction, i: int) -> Tensor:
        check_same_shape("x0", seen.x0, "x_t", x_t)
        return on_x0[i] * seen.x0 + on_xt[i] * x_t

    return walk(denoiser, x_T, schedule, mean, reverse_variances(schedule, variance), generators)


def ddim(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule | None = None,
    eta: float = 0.0,
    generators: Generators = None,
) -> Walk:
    """DDIM's sampler, DDIM Eq. 12 and 16: x_s = √ᾱ_s x̂_0 + √(1-ᾱ_s-σ²) ε̂ + σ z, from step t to the one before, s.

    This is Eq. (eq-ddim-update), and with η = 0, over √ᾱ_s, Eq. (eq-ddim-euler).
    eta: σ = η √β̃_t of the schedule's own steps, Eq. (eq-ddim-eta). 0 is deterministic; 1 is ancestral with β̃_t.
    x_T, schedule as in ``ancestral``. Raises ValueError unless 0 <= eta <= 1.
    """
    schedule = schedule or denoiser.schedule
    variances, direction = noise_weights(schedule, eta)
    keep = before(schedule.signal).tolist()

    def mean(x_t: Tensor, seen: Prediction, i: int) -> Tensor:
        return keep[i] * seen.x0 + direction[i] * seen.eps

    return walk(denoiser, x_T, schedule, mean, variances, generators)


def noise_weights(schedule: Schedule, eta: float) -> tuple[Tensor, list[float]]:
    """Of a step's noise what is fresh and what is kept: σ² = η² β̃_t, (T+1,), and the T+1 numbers √(1-ᾱ_s-σ²).

    Raises ValueError unless 0 <= eta <= 1, where the radicand can't be negative, as β̃_t <= 1-ᾱ_s.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a number in [0, 1], got {eta}")
    variances = eta**2 * schedule.beta_tilde
    return variances, (before(schedule.one_minus_alpha_bar) - variances).sqrt().tolist()


@torch.no_grad()
def ddim_inversion(denoiser: Denoiser, x_0: Tensor, schedule: Schedule | None = None) -> Walk:
    """DDIM with η = 0 run forwards, from images x_0 (B, ...) to the noise that gives them back, nearly.

    Each step goes up from s to t by the noise predicted at s, where ``ddim`` comes down by that at t; so the way back
    returns to x_0 up to an error of first order in the steps. At s = 0, which no denoiser is asked at, it is asked at
    the first step of the schedule. In the ``Step``s, t is s, and t_prev is t.
    """
    schedule = schedule or denoiser.schedule
    check_sampler(denoiser, schedule, None)
    steps, x = schedule.steps.tolist(), x_0
    signal, noise = schedule.signal.tolist(), schedule.sigma.tolist()
    for i in range(1, schedule.T + 1):
        eps = denoiser(x, torch.full((len(x),), steps[max(i - 1, 1)])).eps
        x0 = (x - noise[i - 1] * eps) / signal[i - 1]
        up = signal[i] * x0 + noise[i] * eps
        sent = yield Step(steps[i - 1], steps[i], x, up, x0, eps)
        x = up if sent is None else sent


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Noise between two of one shape (B, ...), on the great circle through both, image by image, Eq. (eq-slerp).

    sin((1-share)φ)/sin φ · one + sin(share φ)/sin φ · other, φ the angle between them: where both are standard
    normal and so nearly orthogonal, the variance stays 1, as it would not on the straight line. DDIM, appendix D.5.
    """
    flat = torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1)).clamp(-1, 1)
    angle = flat.acos().view(-1, *[1] * (one.ndim - 1))
    near = (
        angle.sin() < 1e-6
    )  # one line through both: there the great circle is the straight line, or not one alone
    first, second = ((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()
    return torch.where(near, (1 - share) * one + share * other, first * one + second * other)
