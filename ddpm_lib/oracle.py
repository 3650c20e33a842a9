"""Denoisers with a closed form: for some data the best possible answer is known, and any sampler can be put to it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_lib._checks import check_batch, check_steps
from ddpm_lib.denoiser import Prediction, coefficients
from ddpm_lib.schedule import Schedule


@dataclass(frozen=True)
class GaussianOracle:
    """The exact denoiser for data x_0 ~ N(mean, var), coordinate by coordinate.

    E[x_0 | x_t] = mean + √ᾱ_t var / (ᾱ_t var + 1 - ᾱ_t) · (x_t - √ᾱ_t mean) is linear in x_t, and so is ε.
    mean, var: tensors that broadcast against one image; var >= 0.
    """

    schedule: Schedule
    mean: Tensor
    var: Tensor

    def __post_init__(self):
        if not (self.var >= 0).all():
            raise ValueError(f"var: expected variances >= 0, got a least value of {self.var.min().item()}")

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        check_batch("x_t", x_t, t)
        check_steps("t", t, 1, self.schedule.T)
        a, sigma = coefficients(self.schedule, t, x_t)
        mean, var = self.mean.to(x_t), self.var.to(x_t)
        surprise = (x_t - a * mean) / (a**2 * var + sigma**2)
        return Prediction(mean + a * var * surprise, sigma * surprise, sigma)
