"""Guidance: a class is asked for while sampling. A guided denoiser is a ``Denoiser``, so it works with every sampler.

By Bayes ∇log q(x_t|y) = ∇log q(x_t) + ∇log p(y|x_t). A classifier gives the last term, or the difference of a
conditional and an unconditional denoiser does; a scale above 1 takes more of it than Bayes would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_lib._checks import check_batch, check_same_shape, check_steps
from ddpm_lib._device import moved
from ddpm_lib.denoiser import Denoiser, Prediction, coefficients, prediction
from ddpm_lib.gaussian import GaussianDiffusion, reverse_variances
from ddpm_lib.schedule import Schedule, before
from ddpm_lib.unet import Encoder, UNetConfig, initialise, zero

LogProb = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, ...), t (B,) integers) -> log p(y|x_t), (B,), each image's own; it must be differentiable in x_t."""


class NoisyClassifier(Encoder):
    """net(x_t, t) -> logits of p(y|x_t), (B, classes): the U-Net's way down and one linear layer on what it ends in.

    x_t: noisy images, (B, C, H, W), floating point. t: their steps, (B,) int64, on any device. The logits begin at 0,
    every class as probable as the others. Raises ValueError for other shapes or dtypes, and unless
    config.num_classes is a number.
    """

    def __init__(self, config: UNetConfig):
        if config.num_classes is None:
            raise ValueError("num_classes: expected a number of classes for a classifier, got None")
        super().__init__(config, classes=False)
        self.norm = nn.GroupNorm(config.groups, self.kept[-1], eps=config.eps)
        self.out = nn.Linear(self.kept[-1] * config.sides[-1] ** 2, config.num_classes)
        self.apply(initialise)
        zero(self.out)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        h, *_ = self.encode(x_t, t.to(x_t.device))
        return self.out(F.silu(self.norm(h)).flatten(1))


def class_loss(net: nn.Module, schedule: Schedule, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
    """-log p(y|x_t) of each image's own class at x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, (B,), in nats.

    Its mean is least where net is the true p(y|x_t). net: (x_t, t) -> logits. x0, eps: (B, ...). t: (B,) integers in
    1..T, best on the CPU. y: (B,) integers. In the classifier's precision, and in single precision where that is less.
    Raises ValueError for shapes that do not agree, and for labels that the classifier does not know.
    """
    check_batch("x0", x0, t)
    check_steps("t", t, 1, schedule.T)
    check_same_shape("eps", eps, "x0", x0)
    x_t = GaussianDiffusion(schedule).marginal(x0, t).sample(eps)
    logits = net(x_t, moved(t, x0.device))
    return -_log_prob(logits.float() if logits.dtype.itemsize < 4 else logits, y)


def log_prob_of(classifier: Callable[[Tensor, Tensor], Tensor], y: Tensor) -> LogProb:
    """log p(y|x_t) of a classifier (x_t, t) -> logits (B, classes), for labels y (B,), integers in 0..classes-1.

    Raises ValueError, when it is called, for labels that are not one an image or that the classifier does not know.
    """
    y = y.cpu()  # where a look at them costs nothing, and a wrong one ends in a sentence

    def log_prob(x_t: Tensor, t: Tensor) -> Tensor:
        return _log_prob(classifier(x_t, t), y)

    return log_prob


def _log_prob(logits: Tensor, y: Tensor) -> Tensor:
    """log softmax at the labels. Labels on an accelerator are not looked at, as that would wait for it."""
    if y.shape != logits.shape[:1]:
        raise ValueError(f"y: expected {len(logits)} labels, one an image, got shape {tuple(y.shape)}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"y: expected integer labels, got {y.dtype}")
    classes = logits.shape[1]
    if y.device.type == "cpu" and len(y) and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"y: expected labels in 0..{classes - 1}, got {y.min().item()}..{y.max().item()}")
    return logits.log_softmax(1).gather(1, y.to(logits.device, torch.int64, copy=True)[:, None])[:, 0]


def gradient(log_prob: LogProb, x: Tensor, t: Tensor) -> Tensor:
    """∇_x log p(y|x) at x (B, ...), in x's shape. It works in inference mode too.

    Where gradients are asked of x itself, as by ``samplers.flow_likelihood``, they run through it as well.
    """
    kept = torch.is_grad_enabled() and x.requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        x, t = x if kept else x.detach().clone().requires_grad_(), t.clone()
        (found,) = torch.autograd.grad(log_prob(x, t).sum(), x, create_graph=kept)
    return found


@dataclass(frozen=True)
class ClassifierGuided:
    """Classifier guidance on the noise, ε̂ - s √(1-ᾱ_t) ∇log p(y|x_t), Eq. (eq-classifier-guided).

    Dhariwal & Nichol 2021, algorithm 2, which is for DDIM; the gradient is taken at x_t.
    With s = 1 and the exact classifier it is the exact denoiser of class y. scale: s >= 0, finite. Raises ValueError
    where ᾱ_T = 0, as there the noise says nothing of x_0.
    """

    denoiser: Denoiser
    log_prob: LogProb
    scale: float = 1.0

    def __post_init__(self):
        _check_scale(self.scale)
        if self.schedule.ends_in_noise:
            raise ValueError("schedule: expected alpha_bar[T] > 0 for guidance on the noise, got 0")

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        seen = self.denoiser(x_t, t)
        eps = seen.eps - self.scale * seen.sigma * gradient(self.log_prob, x_t, t)
        return prediction("eps", self.schedule, x_t, eps, t)


@dataclass(frozen=True)
class MeanShifted:
    """Classifier guidance on the mean of DDPM's step, μ + s σ_t² ∇log p(y|·), Eq. (eq-mean-shifted).

    at: where the gradient is taken: "mean", at μ and the step it belongs to, which is how Dhariwal & Nichol 2021,
    section 4.1, derive it; or "x_t", at x_t and t, which is what their algorithm 1 says. Unlike there the last step,
    which adds no noise, is not shifted.
    As a denoiser it answers with the x_0 whose posterior mean is that shifted mean. So it is for ``ancestral`` alone,
    on the steps of ``sampled`` (the denoiser's unless given) with this variance (``gaussian.reverse_variances``);
    every other sampler refuses it with a ValueError.
    """

    denoiser: Denoiser
    log_prob: LogProb
    scale: float = 1.0
    sampled: Schedule | None = None
    variance: str | Tensor = "posterior"
    at: str = "mean"

    def __post_init__(self):
        _check_scale(self.scale)
        if self.at not in ("mean", "x_t"):
            raise ValueError(f"at: expected 'mean' or 'x_t', got {self.at!r}")
        object.__setattr__(self, "sampled", self.sampled or self.denoiser.schedule)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def check_sampler(self, schedule: Schedule, variances: Tensor | None) -> None:
        """Raise ValueError unless a sampler visits the very steps that the shift is for, with the same variances."""
        if not self.sampled.same_as(schedule):
            raise ValueError(f"schedule: expected that of MeanShifted, {self.sampled}, got {schedule}")
        ours = reverse_variances(self.sampled, self.variance)
        if variances is None or variances.shape != ours.shape or not variances[2:].equal(ours[2:]):
            raise ValueError(
                "variance: expected that of MeanShifted, as the mean is shifted by it, got another"
            )

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        seen, s = self.denoiser(x_t, t), self.sampled
        i = torch.searchsorted(s.steps, t.cpu())
        if (i > s.T).any() or (s.steps[i.clamp(max=s.T)] != t.cpu()).any():
            raise ValueError(
                f"t: expected steps of the schedule that is sampled on, got {t.unique().tolist()}"
            )
        if self.at == "mean":
            x, when = GaussianDiffusion(s).posterior(x_t, seen.x0, i).mean, s.steps[i - 1].clamp(min=1)
        else:
            x, when = x_t, t
        on_x0 = before(s.alpha_bar).sqrt() * s.beta / s.one_minus_alpha_bar  # of x_0 in the posterior's mean
        shift = self.scale * reverse_variances(s, self.variance) / on_x0
        shift[:2] = 0  # no noise in the last step, and no shift
        x0 = seen.x0 + s.at(shift, i, x_t) * gradient(self.log_prob, x, when.to(t.device))
        a, sigma = coefficients(self.schedule, t, x_t)
        return Prediction(x0, (x_t - a * x0) / sigma, sigma)


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance, ε̂ = ε_∅ + s (ε_y - ε_∅), Eq. (eq-classifier-free), Ho & Salimans 2022.

    scale: s, the convention of most code: 0 takes no notice of the class, 1 is the conditional denoiser, above 1
    sharpens. The paper's own weight is w = s - 1, its equation 6: (1+w) ε_y - w ε_∅; see ``of_weight``.
    interval: guidance acts at steps t with low < t <= high; outside of it the conditional denoiser answers alone.
    """

    conditional: Denoiser
    unconditional: Denoiser
    scale: float = 1.0
    interval: tuple[int, int] | None = None

    def __post_init__(self):
        _check_scale(self.scale)
        one, other = self.conditional.schedule, self.unconditional.schedule
        if not one.same_as(other):
            raise ValueError(f"unconditional: expected the schedule of conditional, {one}, got {other}")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"interval: expected 0 <= low < high, got {self.interval}")

    @classmethod
    def of_weight(
        cls, conditional: Denoiser, unconditional: Denoiser, weight: float, **options
    ) -> ClassifierFree:
        """The same by the paper's weight w >= -1, Eq. (eq-two-scales): w = 0 is the conditional denoiser."""
        return cls(conditional, unconditional, 1 + weight, **options)

    @property
    def schedule(self) -> Schedule:
        return self.conditional.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        low, high = self.interval or (0, self.schedule.T)
        told = self.conditional(x_t, t)
        if self.scale == 1 or (t.device.type != "meta" and not ((low < t) & (t <= high)).any()):
            return told
        free = self.unconditional(x_t, t)
        inside = ((low < t) & (t <= high)).to(x_t.device).view(-1, *[1] * (x_t.ndim - 1))
        s = torch.ones_like(inside, dtype=x_t.dtype).masked_fill(inside, self.scale)
        return Prediction(free.x0 + s * (told.x0 - free.x0), free.eps + s * (told.eps - free.eps), told.sigma)


def _check_scale(scale: float) -> None:
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale: expected a finite number >= 0, got {scale}")
