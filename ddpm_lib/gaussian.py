"""The Gaussian diffusion kernel: one noising step, many at once, and one step back when x_0 is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddpm_lib._checks import check_batch, check_same_shape, check_steps
from ddpm_lib.kernel import Generators, standard_normal
from ddpm_lib.schedule import Schedule, before


@dataclass(frozen=True)
class Normal:
    """N(mean, var I): independent coordinates, given by their *variance*. mean and var broadcast; var may be 0."""

    mean: Tensor
    var: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """mean + √var ε for standard normal ε of the samples' shape."""
        return self.mean + self.var.sqrt() * eps

    def draw(self, generators: Generators = None) -> Tensor:
        """A sample; generators: one for the whole batch, one an image, or None for torch's own."""
        return self.sample(standard_normal(torch.broadcast_tensors(self.mean, self.var)[0], generators))

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of each coordinate, in nats, in x's shape; var must be positive."""
        return -0.5 * ((x - self.mean) ** 2 / self.var + self.var.log() + math.log(2 * math.pi))


class GaussianDiffusion:
    """The chain q with transitions N(√(1-β_t) x_{t-1}, β_t I), DDPM Eq. 2, over images of any shape (B, ...).

    Each method takes steps t as (B,) integers on any device (the CPU saves a transfer), computes its coefficients
    in float64, and returns a ``Normal`` in the dtype and on the device of the images. All raise ValueError for a
    step out of range or for shapes that do not agree.
    """

    def __init__(self, schedule: Schedule):
        self.schedule = schedule

    def step(self, x_prev: Tensor, t: Tensor) -> Normal:
        """q(x_t | x_{t-1}), Eq. (eq-forward-step), for t in 1..T."""
        self._check("x_prev", x_prev, t, low=1)
        s = self.schedule
        return Normal(s.at(s.alpha.sqrt(), t, x_prev) * x_prev, s.at(s.beta, t, x_prev))

    def marginal(self, x0: Tensor, t: Tensor) -> Normal:
        """q(x_t | x_0), Eq. (eq-marginal), DDPM Eq. 4, for t in 0..T; at t = 0 it is x_0 itself, variance 0."""
        self._check("x0", x0, t, low=0)
        s = self.schedule
        return Normal(s.at(s.signal, t, x0) * x0, s.at(s.one_minus_alpha_bar, t, x0))

    def posterior(self, x_t: Tensor, x0: Tensor, t: Tensor) -> Normal:
        """q(x_{t-1} | x_t, x_0), Eq. (eq-posterior-mean) and (eq-posterior-variance), DDPM Eq. 6-7, t in 1..T.

        At t = 1 it is x_0 itself: the variance β̃_1 is 0.
        """
        self._check("x_t", x_t, t, low=1)
        check_same_shape("x0", x0, "x_t", x_t)
        s, (on_x0, on_xt) = self.schedule, self.posterior_weights
        mean = s.at(on_x0, t, x_t) * x0 + s.at(on_xt, t, x_t) * x_t
        return Normal(mean, s.at(s.beta_tilde, t, x_t))

    @cached_property
    def posterior_weights(self) -> tuple[Tensor, Tensor]:
        """What the posterior's mean takes of x_0 and of x_t, float64, each (T+1,), Eq. (eq-posterior-mean)."""
        s = self.schedule
        on_x0 = before(s.alpha_bar).sqrt() * s.beta / s.one_minus_alpha_bar
        return on_x0, s.alpha.sqrt() * before(s.one_minus_alpha_bar) / s.one_minus_alpha_bar

    def prior(self, like: Tensor) -> Normal:
        """π = N(0, I), Eq. (eq-prior), for images shaped as like."""
        return Normal(torch.zeros_like(like), torch.ones_like(like))

    @staticmethod
    def kl(p: Normal, q: Normal) -> Tensor:
        """KL(p ‖ q) in nats, Eq. (eq-kl-normals), summed over each image's coordinates, (B,). Both var must be > 0."""
        ratio = p.var / q.var
        each = 0.5 * (ratio - 1 - ratio.log() + (p.mean - q.mean) ** 2 / q.var)
        return each.flatten(1).sum(1)

    def _check(self, name: str, x: Tensor, t: Tensor, low: int) -> None:
        check_steps("t", t, low, self.schedule.T)
        check_batch(name, x, t)


def reverse_variances(schedule: Schedule, variance: str | Tensor = "beta") -> Tensor:
    """The reverse step's variances σ_t², float64, by t = 0..T: (T+1,), or (T+1, ...) where pixels differ.

    variance: "beta" for β_t, "posterior" for β̃_t, or such a table; a table's entry 0 is not used. As β̃_1 = 0 is no
    variance, σ_1² = β_1 with "posterior" too. Raises ValueError for another name, length or a variance not positive.
    """
    if isinstance(variance, Tensor):
        if variance.ndim < 1 or len(variance) != schedule.T + 1:
            raise ValueError(
                f"variance: expected a table of {schedule.T + 1} entries, got {tuple(variance.shape)}"
            )
        table = variance.detach().cpu().double()
        if not (table[1:] > 0).all() or not table[1:].isfinite().all():
            raise ValueError("variance: expected positive and finite values at t = 1..T")
        return table
    if variance not in ("beta", "posterior"):
        raise ValueError(f"variance: expected 'beta', 'posterior' or a table, got {variance!r}")
    table = (schedule.beta if variance == "beta" else schedule.beta_tilde).clone()
    table[1] = schedule.beta[1]
    return table
