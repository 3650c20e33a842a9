"""Denoisers with a closed form: for some data the best possible answer is known, and any sampler can be put to it.

Each also knows log q(x_t) itself, by ``log_prob``, and draws clean data, by ``sample``. The answer is E[x_0 | x_t]
and E[ε | x_t]; which of several places x_0 may be in is weighed in log space and float64, so that nothing underflows
at small noise, and is returned in x_t's dtype.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ddpm_lib._checks import check_batch, check_steps
from ddpm_lib.denoiser import Prediction, coefficients
from ddpm_lib.gaussian import Normal
from ddpm_lib.kernel import standard_normal
from ddpm_lib.schedule import Schedule


class _AnyLevel:
    """What all of them can do, as they need no training: answer at noise levels between two steps."""

    def at_level(self, log_alpha_bar: float):
        """The same data's denoiser with one step, t = 1, that leaves ᾱ_1 = exp(log_alpha_bar) < 1."""
        return replace(self, schedule=Schedule(torch.tensor([0.0, log_alpha_bar], dtype=torch.float64)))


@dataclass(frozen=True)
class GaussianOracle(_AnyLevel):
    """The exact denoiser for data x_0 ~ N(mean, var), coordinate by coordinate.

    E[x_0 | x_t] = mean + √ᾱ_t var / (ᾱ_t var + 1 - ᾱ_t) · (x_t - √ᾱ_t mean) is linear in x_t, and so is ε,
    Eq. (eq-noise-normal).
    mean, var: tensors that broadcast against one image; var >= 0. (For a full covariance see ``MixtureOracle``.)
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

    def log_prob(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log q(x_t), Eq. (eq-noised-normal), (B,), in nats.

        t: (B,) in 0..T; at 0 it is the data's own density and needs var > 0.
        """
        check_batch("x_t", x_t, t)
        check_steps("t", t, 0 if (self.var > 0).all() else 1, self.schedule.T)
        a, sigma = coefficients(self.schedule, t, x_t)
        law = Normal(a * self.mean.to(x_t), a**2 * self.var.to(x_t) + sigma**2)
        return _flat(law.log_prob(x_t)).sum(1)

    def variance(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Var[x_0 | x_t] of each coordinate, in x_t's shape. t: (B,) in 1..T.

        Times the signal-to-noise ratio it is the least mean square error in ε, Eq. (eq-floor-normal).
        """
        check_batch("x_t", x_t, t)
        check_steps("t", t, 1, self.schedule.T)
        a, sigma = coefficients(self.schedule, t, x_t)
        var = self.var.to(x_t)
        return (sigma**2 * var / (a**2 * var + sigma**2)).expand_as(x_t)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n clean images, (n, ...), of the shape to which mean and var broadcast."""
        mean, var = torch.broadcast_tensors(self.mean, self.var)
        return Normal(mean, var).sample(standard_normal(mean.new_empty(n, *mean.shape), generator))


@dataclass(frozen=True)
class MixtureOracle(_AnyLevel):
    """The exact denoiser for data x_0 ~ Σ_k weights_k N(means_k, covariances_k); for two bells Eq. (eq-noise-mixture).

    means: (K, ...), one image each. covariances: (K,) if isotropic, (K, ...) as means if diagonal, or (K, d, d) over
    the d coordinates of a flattened image; they may be 0, or singular. weights: (K,), positive, of sum 1; equal if
    None. With K = 1 this is Gaussian data of any covariance. Raises ValueError for what doesn't fit.
    """

    schedule: Schedule
    means: Tensor
    covariances: Tensor
    weights: Tensor | None = None

    def __post_init__(self):
        K = len(self.means)
        shapes = [(K,), tuple(self.means.shape), (K, self._d, self._d)]
        if tuple(self.covariances.shape) not in shapes:
            raise ValueError(
                f"covariances: expected one of the shapes {shapes}, got {tuple(self.covariances.shape)}"
            )
        self._axes  # noqa: B018 - looks at the covariances, and complains of what is none
        weights = torch.full((K,), 1 / K, dtype=torch.float64) if self.weights is None else self.weights
        if weights.shape != (K,) or not (weights > 0).all() or abs(weights.sum().item() - 1) > 1e-6:
            raise ValueError(f"weights: expected {K} positive numbers of sum 1, got {weights.tolist()}")
        object.__setattr__(self, "weights", weights)

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        parts = self._parts(x_t, t, low=1)
        share = parts.log_joint.softmax(1).unsqueeze(2)
        x0 = (share * (parts.mean + self._turn_back(parts.gain * parts.surprise))).sum(1)
        eps = (share * self._turn_back(parts.sigma * parts.surprise)).sum(1)
        _, sigma = coefficients(self.schedule, t, x_t)
        return Prediction(x0.to(x_t).view_as(x_t), eps.to(x_t).view_as(x_t), sigma)

    def responsibilities(self, x_t: Tensor, t: Tensor) -> Tensor:
        """q(k | x_t), (B, K), float64: the chance that x_t comes from component k; for two bells Eq. (eq-white-share).

        t: (B,) in 0..T.
        """
        return self._parts(x_t, t).log_joint.softmax(1)

    def log_prob(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log q(x_t), (B,), in nats. t: (B,) in 0..T; at 0 it is the data's own density, which must exist."""
        return self._parts(x_t, t).log_joint.logsumexp(1).to(x_t)

    def variance(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Var[x_0 | x_t] of each coordinate, x_t's shape: within the components and between. t: (B,) in 1..T."""
        parts = self._parts(x_t, t, low=1)
        share = parts.log_joint.softmax(1).unsqueeze(2)
        x0 = parts.mean + self._turn_back(parts.gain * parts.surprise)
        between = (x0 - (share * x0).sum(1, keepdim=True)) ** 2
        return (share * (self._diagonal(parts.left) + between)).sum(1).to(x_t).view_as(x_t)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n clean images, (n, ...), in the means' dtype."""
        where = "cpu" if generator is None else generator.device
        k = torch.multinomial(self.weights.to(where), n, replacement=True, generator=generator).cpu()
        variances, axes = self._axes
        spread = variances[k].sqrt() * standard_normal(variances.new_empty(n, self._d), generator)
        if axes is not None:
            spread = torch.einsum("ne,nde->nd", spread, axes[k])
        return self.means[k] + spread.to(self.means).view(n, *self.means.shape[1:])

    def _parts(self, x_t: Tensor, t: Tensor, low: int | None = None) -> _Parts:
        """What each component alone makes of x_t, in float64 and along the component's own axes."""
        variances, _ = self._axes
        check_batch("x_t", x_t, t)
        check_steps("t", t, low if low is not None else int(variances.min() == 0), self.schedule.T)
        if x_t.shape[1:] != self.means.shape[1:]:
            expected = tuple(self.means.shape[1:])
            raise ValueError(f"x_t: expected images of shape {expected}, got {tuple(x_t.shape[1:])}")
        x = _flat(_exact(x_t)).unsqueeze(1)  # (B, 1, d)
        a, sigma = coefficients(self.schedule, t, x)
        mean, variances = _flat(self.means).to(x), variances.to(x)
        total = a**2 * variances + sigma**2  # (B, K, d or 1)
        off = self._turn(x - a * mean)
        log_density = -0.5 * (off**2 / total + (2 * math.pi * total).log()).sum(2)
        log_joint = self.weights.to(x).log() + log_density
        return _Parts(log_joint, mean, off / total, a * variances, sigma, sigma**2 * variances / total)

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor | None]:
        """Variances, (K, 1) or (K, d), along each component's axes, the columns of (K, d, d), or None: the pixels."""
        covariances = _exact(self.covariances.detach())
        if self.covariances.shape != (len(self.means), self._d, self._d):
            variances, axes, rounding = covariances.view(len(self.means), -1), None, 0.0
        elif not torch.allclose(covariances, covariances.mT):
            raise ValueError("covariances: expected symmetric matrices")
        else:
            variances, axes = torch.linalg.eigh(covariances)
            rounding = self._d * torch.finfo(self.covariances.dtype).eps * variances.abs().max().item()
        least = variances.min().item()
        if not least >= -rounding:
            raise ValueError(f"covariances: expected variances >= 0 along every axis, got {least}")
        return torch.where(variances > rounding, variances, 0.0), axes

    @property
    def _d(self) -> int:
        return self.means[0].numel()

    def _turn(self, x: Tensor) -> Tensor:
        """Pixels (B, K, d) to coordinates along the components' axes."""
        axes = self._axes[1]
        return x if axes is None else torch.einsum("bkd,kde->bke", x, axes.to(x))

    def _turn_back(self, x: Tensor) -> Tensor:
        axes = self._axes[1]
        return x if axes is None else torch.einsum("bke,kde->bkd", x, axes.to(x))

    def _diagonal(self, variances: Tensor) -> Tensor:
        """The pixels' variances from those along the axes."""
        axes = self._axes[1]
        return variances if axes is None else torch.einsum("bke,kde->bkd", variances, axes.to(variances) ** 2)


@dataclass(frozen=True)
class _Parts:
    """What the components make of x_t: log(weight · density), (B, K); the rest (B, K, d) or broadcasting to it.

    surprise: (x_t - √ᾱ_t mean) / variance of x_t, along the axes, as are gain = √ᾱ_t variance of x_0, and left, the
    variance of x_0 that remains given x_t. mean is in pixels; sigma = √(1-ᾱ_t).
    """

    log_joint: Tensor
    mean: Tensor
    surprise: Tensor
    gain: Tensor
    sigma: Tensor
    left: Tensor


@dataclass(frozen=True)
class EmpiricalOracle(_AnyLevel):
    """The exact denoiser for data that are a finite set, each image as likely as any other.

    E[x_0 | x_t] is the mean of the images weighed by softmax(-‖x_t - √ᾱ_t x_0‖² / 2(1-ᾱ_t)), Eq. (eq-softmax); for a
    black and a white pixel it is Eq. (eq-two-points). This is what a network that has learned a data set by heart would
    answer, and it samples that set. data: (N, ...) floating point, best on x_t's device. chunk: so many images are held
    against x_t at a time; it changes memory, not the answer. The log weights are good to about 1e-16 ‖x_t‖² / (1-ᾱ_t).
    """

    schedule: Schedule
    data: Tensor
    chunk: int = 1024

    def __post_init__(self):
        if not self.data.is_floating_point() or self.data.ndim < 1 or len(self.data) == 0:
            raise ValueError(
                f"data: expected floating-point images (N, ...), N >= 1, got {tuple(self.data.shape)} {self.data.dtype}"
            )
        if self.chunk < 1:
            raise ValueError(f"chunk: expected at least 1 image, got {self.chunk}")

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        _, x0 = self._weigh(x_t, t)
        a, sigma = coefficients(self.schedule, t, x0)
        eps = (_exact(x_t) - a * x0) / sigma
        return Prediction(x0.to(x_t), eps.to(x_t), sigma.to(x_t))

    def log_prob(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log q(x_t), (B,), in nats; the density is that of N round bumps of variance 1-ᾱ_t. t: (B,) in 1..T."""
        log_sum, _ = self._weigh(x_t, t)
        x = _flat(_exact(x_t))
        var = self.schedule.at(self.schedule.one_minus_alpha_bar, t, x).squeeze(1)
        bump = (x**2).sum(1) / var + x.shape[1] * (2 * math.pi * var).log()
        return (log_sum - 0.5 * bump - math.log(len(self.data))).to(x_t)

    def variance(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Var[x_0 | x_t] of each coordinate, x_t's shape, up to 1e-16: 0 where one image is meant. t: (B,) in 1..T."""
        _, (x0, square) = self._weigh(x_t, t, squares=True)
        return (square - x0**2).clamp(min=0).to(x_t)  # by Jensen below 0 only in float64's last digit

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n images of the data, with replacement, (n, ...)."""
        where = "cpu" if generator is None else generator.device
        k = torch.randint(len(self.data), (n,), generator=generator, device=where)
        return self.data[k.to(self.data.device)]

    @cached_property
    def _half_lengths(self) -> Tensor:
        """‖x_0‖² / 2 of each image, (N,) float64."""
        return torch.cat([_flat(_exact(part)).square().sum(1) / 2 for part in self.data.split(self.chunk)])

    def _weigh(self, x_t: Tensor, t: Tensor, squares: bool = False) -> tuple[Tensor, Tensor]:
        """log Σ exp(log weight) up to what all images share, (B,), and E[x_0 | x_t], in float64.

        With squares the second is E[x_0 | x_t] and E[x_0² | x_t], stacked. One pass over the data: what was summed is
        scaled anew whenever a greater log weight turns up.
        """
        check_batch("x_t", x_t, t)
        check_steps("t", t, 1, self.schedule.T)
        if x_t.shape[1:] != self.data.shape[1:]:
            expected = tuple(self.data.shape[1:])
            raise ValueError(f"x_t: expected images of shape {expected}, got {tuple(x_t.shape[1:])}")
        x = _flat(_exact(x_t))
        a, sigma = coefficients(self.schedule, t, x)
        most, mass = x.new_full((len(x), 1), -math.inf), x.new_zeros(len(x), 1)
        sums = x.new_zeros(1 + squares, *x.shape)
        half_lengths = self._half_lengths.to(x).split(self.chunk)
        for part, half_length in zip(self.data.split(self.chunk), half_lengths, strict=True):
            y = _flat(part).to(x)
            log_weight = (a * (x @ y.T) - a**2 * half_length) / sigma**2
            greatest = torch.maximum(most, log_weight.amax(1, keepdim=True))
            fade, weight = (most - greatest).exp(), (log_weight - greatest).exp()
            mass = fade * mass + weight.sum(1, keepdim=True)
            sums = fade * sums + (weight @ torch.stack([y, y**2]) if squares else weight @ y)
            most = greatest
        means = (sums / mass).view(-1, *x_t.shape)
        return (most + mass.log()).squeeze(1), means if squares else means[0]


def _flat(x: Tensor) -> Tensor:
    """Images (B, ...) as rows (B, d), those of no dimension too."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _exact(x: Tensor) -> Tensor:
    """x in float64; on the CPU if its device has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()
