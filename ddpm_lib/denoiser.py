"""The one interface at which networks, exact answers, guidance and samplers meet.

A *denoiser* looks at x_t and t and says what it thinks the clean image and the noise are. Whatever keeps this
promise, a trained network, a closed form or a guided mixture of both, works with every sampler.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from ddpm_lib._checks import check_batch, check_same_shape, check_steps
from ddpm_lib._device import moved
from ddpm_lib.schedule import Schedule

OBJECTIVES = ("eps", "x0", "v")


@dataclass(frozen=True)
class Prediction:
    """What a denoiser sees in x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, both in x_t's shape (B, ...).

    x0: the expected clean image E[x_0 | x_t]. eps: the expected noise E[ε | x_t].
    sigma: √(1-ᾱ_t), shaped (B, 1, ..., 1).
    """

    x0: Tensor
    eps: Tensor
    sigma: Tensor

    @property
    def score(self) -> Tensor:
        """∇ log q(x_t) = -ε / √(1-ᾱ_t), Eq. (eq-score-model), in x_t's shape."""
        return -self.eps / self.sigma


class Denoiser(Protocol):
    """(x_t, t) -> Prediction. x_t: (B, ...) floating point. t: (B,) integers in 1..T."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction: ...


def check_sampler(denoiser: Denoiser, schedule: Schedule, variances: Tensor | None) -> None:
    """Raise ValueError where a denoiser that answers for one sampler alone is asked by another one.

    schedule, variances: the sampler's steps and its noise, (T+1, ...) or None. Most denoisers have no such method.
    """
    if hasattr(denoiser, "check_sampler"):
        denoiser.check_sampler(schedule, variances)


def coefficients(schedule: Schedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1-ᾱ_t), each (B, 1, ..., 1): x_t = first · x_0 + second · ε, Eq. (eq-marginal-sample)."""
    return schedule.at(schedule.signal, t, like), schedule.at(schedule.sigma, t, like)


def target(objective: str, schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """What a network with this objective should answer: ε, x_0 or v = √ᾱ_t ε - √(1-ᾱ_t) x_0, Eq. (eq-v).

    v is Salimans & Ho's (2022). x0, eps: (B, ...). t: (B,) integers in 1..T.
    """
    _check_objective(objective)
    if objective != "v":
        return eps if objective == "eps" else x0
    a, sigma = coefficients(schedule, t, x0)
    return a * eps - sigma * x0


def prediction(objective: str, schedule: Schedule, x_t: Tensor, answer: Tensor, t: Tensor) -> Prediction:
    """Turn a network's answer into x_0 and ε, so that x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε holds whatever the objective.

    From v by Eq. (eq-x0-from-v) and (eq-eps-from-v), which agree by Eq. (eq-consistent); from ε by
    Eq. (eq-x0-from-eps); from x_0 by Eq. (eq-eps-from-x0). x_t, answer: (B, ...). t: (B,) integers in 1..T. Raises
    ValueError for objective "eps" where ᾱ_t = 0: there x_t is all noise and x_0 cannot be had from ε.
    """
    _check_objective(objective)
    a, sigma = coefficients(schedule, t, x_t)
    if objective == "v":
        return Prediction(a * x_t - sigma * answer, sigma * x_t + a * answer, sigma)
    if objective == "x0":
        return Prediction(answer, (x_t - a * answer) / sigma, sigma)
    if schedule.ends_in_noise and t.device.type != "meta" and (t == schedule.T).any():
        raise ValueError("objective: 'eps' says nothing about x_0 where alpha_bar[T] = 0; use 'x0' or 'v'")
    return Prediction((x_t - sigma * answer) / a, answer, sigma)


@dataclass(frozen=True)
class NetworkDenoiser:
    """A network as a denoiser.

    net: called as net(x_t, t, y) and answering in x_t's shape. objective: what its answer means, "eps", "x0" or
    "v". y: (B,) int64 class labels, or None for none (a class-conditional network then uses its null label).
    """

    net: nn.Module
    schedule: Schedule
    objective: str = "v"
    y: Tensor | None = None

    def __post_init__(self):
        _check_objective(self.objective)

    def given(self, y: Tensor | None) -> NetworkDenoiser:
        """The same network asked for the classes y."""
        return replace(self, y=y)

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        check_batch("x_t", x_t, t)
        check_steps("t", t, 1, self.schedule.T)
        answer = self.net(x_t, moved(t, x_t.device), self.y)
        check_same_shape("net(x_t, t, y)", answer, "x_t", x_t)
        return prediction(self.objective, self.schedule, x_t, answer.to(x_t.dtype), t)


@dataclass(frozen=True)
class Clipped:
    """A denoiser whose x_0 is kept in [-1, 1], the range of images, and whose ε is derived again from it.

    By Eq. (eq-eps-from-x0), so x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε still holds. Ancestral sampling uses x_0 alone and does
    not care; for DDIM this is the choice that some call "use clipped model output". Clipping biases oracles: leave it
    off to test them.
    """

    denoiser: Denoiser

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def given(self, y: Tensor | None) -> Clipped:
        """The same, of the denoiser asked for the classes y, if that can be asked for any."""
        return replace(self, denoiser=self.denoiser.given(y))

    def check_sampler(self, schedule: Schedule, variances: Tensor | None) -> None:
        check_sampler(self.denoiser, schedule, variances)

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        free = self.denoiser(x_t, t)
        x0 = free.x0.clamp(-1, 1)
        a = self.schedule.at(self.schedule.signal, t, x_t)
        return replace(free, x0=x0, eps=(x_t - a * x0) / free.sigma)


def _check_objective(objective: str) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {objective!r}")
