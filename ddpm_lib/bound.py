"""What training minimises, and the bound on -log p(x_0) that it comes from: term by term, with the losses' weights.

    -log p(x_0) <= L_T + Σ_{t=2}^{T} L_{t-1} + L_0

Terms are in nats an image, (B,), and computed in float64: 1 - ᾱ_1 and the prior term are lost in float32. They need
of a chain only what ``kernel.Diffusion`` lists, so they hold for the Gaussian kernel and for the binomial one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_lib._checks import check_batch, check_same_shape, check_steps
from ddpm_lib._device import moved
from ddpm_lib.denoiser import OBJECTIVES, Denoiser, Prediction, target
from ddpm_lib.gaussian import GaussianDiffusion, Normal, reverse_variances
from ddpm_lib.kernel import Diffusion, Law
from ddpm_lib.schedule import Schedule, before


@dataclass(frozen=True)
class Bound:
    """The terms of the bound for B images, in nats.

    prior: L_T, (B,). steps: L_{t-1} for each step t of ``t``, (B, len(t)). decoder: L_0, (B,). t: steps of 2..T,
    (len(t),) int64. T: the chain's length. dims: coordinates of an image.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor
    t: Tensor
    T: int
    dims: int

    @property
    def total(self) -> Tensor:
        """L_T + Σ L_{t-1} + L_0, Eq. (eq-bound), (B,) nats. Raises ValueError where steps are missing from the sum."""
        if len(self.t) != self.T - 1:
            raise ValueError(
                f"t: the bound is the sum over all {self.T - 1} steps 2..{self.T}, got {len(self.t)}"
            )
        return self.prior + self.steps.sum(1) + self.decoder

    @property
    def bits_per_dim(self) -> Tensor:
        """The total in bits a coordinate, (B,)."""
        return bits_per_dim(self.total, self.dims)


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """Nats an image to bits a coordinate: nats / (dims log 2), Eq. (eq-bits-per-dim)."""
    if dims < 1:
        raise ValueError(f"dims: expected a number of coordinates >= 1, got {dims}")
    return nats / (dims * math.log(2))


def prior_term(diffusion: Diffusion, x0: Tensor) -> Tensor:
    """L_T = KL(q(x_T | x_0) ‖ π) of each image, (B,) float64, in nats; for the Gaussian kernel Eq. (eq-prior-kl).

    x0: (B, ...) floating point.
    """
    last = torch.full((len(x0),), diffusion.schedule.T)
    return diffusion.kl(diffusion.marginal(_exact(x0), last), diffusion.prior(_exact(x0)))


def step_term(diffusion: Diffusion, x0: Tensor, x_t: Tensor, t: Tensor, p: Law) -> Tensor:
    """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)) of each image at its x_t, (B,) float64, in nats.

    x0, x_t: (B, ...). t: (B,) integers in 2..T; at t = 1 the posterior is x_0 itself, without a divergence, and
    L_0 stands in its place. p: a law of the diffusion's kind. Raises ValueError for t out of range.
    """
    check_steps("t", t, 2, diffusion.schedule.T)
    return diffusion.kl(diffusion.posterior(_exact(x_t), _exact(x0), t), p)


def reverse_step(
    diffusion: GaussianDiffusion, x_t: Tensor, seen: Prediction, t: Tensor, variance: str | Tensor = "beta"
) -> Normal:
    """p(x_{t-1} | x_t) = N(μ̃_t(x_t, x̂_0), σ_t²), Eq. (eq-reverse-step), in float64.

    x_t: (B, ...). seen: what a denoiser makes of x_t. t: (B,) integers in 1..T. variance: see ``reverse_variances``.
    """
    x_t = _exact(x_t)
    mean = diffusion.posterior(x_t, _exact(seen.x0), t).mean
    return Normal(mean, diffusion.schedule.at(reverse_variances(diffusion.schedule, variance), t, x_t))


def density_decoder(x0: Tensor, p: Law) -> Tensor:
    """L_0 = -log p(x_0 | x_1), (B,) float64 nats, by p's own density: for continuous data, where it may be negative.

    For bits it is their probability. x0: (B, ...); p: a law of such images.
    """
    each = p.log_prob(_exact(x0))
    check_same_shape("p", each, "x0", x0)
    return -each.flatten(1).sum(1)


def discretised_decoder(x0: Tensor, p: Normal) -> Tensor:
    """L_0 = -log p(x_0 | x_1) for 8-bit images, (B,) float64 nats, DDPM Eq. 13: p's mass in each pixel's bin.

    x0: (B, ...) bytes scaled to [-1, 1], that is byte / 127.5 - 1; anything else raises ValueError. p: x0's shape.
    """
    check_same_shape("p.mean", p.mean, "x0", x0)
    return -log_bin_mass(to_levels(x0), p).flatten(1).sum(1)


def to_levels(x0: Tensor) -> Tensor:
    """The bytes 0..255 of images scaled to [-1, 1], int64. Raises ValueError for values that no byte has."""
    scaled = (_exact(x0) + 1) * 127.5
    levels = scaled.round()
    if x0.device.type != "meta":
        # float32 puts a byte within 1e-5 of its place, bfloat16 only within 1/4
        fits = ((scaled - levels).abs() < 1e-3) & (levels >= 0) & (levels <= 255)
        if not fits.all():
            raise ValueError(
                f"x0: expected 8-bit images, byte / 127.5 - 1 in [-1, 1], got {x0[~fits.to(x0.device)][0].item()}"
            )
    return levels.to(torch.int64)


def log_bin_mass(levels: Tensor, p: Normal) -> Tensor:
    """log of p's mass in the bin of each level, Eq. (eq-decoder-bin) and (eq-normal-cdf), float64, in levels' shape.

    Level k's bin reaches 1/255 to both sides of k/127.5 - 1; that of 0 goes on to -∞ and that of 255 to ∞, so the
    256 bins share out all of p. Nothing is clamped, however far the tail. levels: integers 0..255, broadcasting against
    p's mean. Raises ValueError unless the variance is positive.
    """
    mean, var = _exact(p.mean), _exact(p.var)
    if var.device.type != "meta" and not (var > 0).all():
        raise ValueError(f"p.var: expected variances > 0, got a least value of {var.min().item()}")
    scale = var.sqrt()
    levels = levels.to(mean)
    a = ((2 * levels - 256) / 255.0 - mean) / scale
    b = ((2 * levels - 254) / 255.0 - mean) / scale
    inner = _log_interval(a, b)
    return torch.where(
        levels == 0, torch.special.log_ndtr(b), torch.where(levels == 255, torch.special.log_ndtr(-a), inner)
    )


def _log_interval(a: Tensor, b: Tensor) -> Tensor:
    """log(Φ(b) - Φ(a)) for finite a < b, to float64's accuracy everywhere.

    Mirrored so that the interval leans to the left. Where it has 0 inside, no two numbers close to each other are
    subtracted; where it is a tail, e^{-b²/2} is taken out first: Φ(b) - Φ(a) = e^{-b²/2} (erfcx - e^{-…} erfcx) / 2.
    Each branch gets harmless arguments where the other one counts, for the sake of gradients.
    """
    a, b = torch.where(a + b > 0, -b, a) / math.sqrt(2), torch.where(a + b > 0, -a, b) / math.sqrt(2)
    around = b > 0
    outside = (torch.erfc(-a) + torch.erfc(b)) / 2
    inside = torch.where(around, (torch.erf(b) - torch.erf(a)) / 2, 1.0)
    few = outside < 0.5
    middle = torch.where(few, torch.log1p(-torch.where(few, outside, 0.0)), inside.log())
    low, high = torch.where(around, -2.0, a), torch.where(around, -1.0, b)
    scaled = torch.special.erfcx(-high) - torch.exp((high - low) * (high + low)) * torch.special.erfcx(-low)
    return torch.where(around, middle, torch.log(scaled / 2) - high**2)


def seeded_draw(seed: int = 0) -> Callable[[Law, int], Tensor]:
    """How ``bound_terms`` draws x_t from a law: the noise of step t comes from (seed, t) alone, on every device."""

    def draw(law: Law, t: int) -> Tensor:
        return law.draw(torch.Generator().manual_seed(seed * 1_000_003 + t))

    return draw


@torch.no_grad()
def bound_terms(
    x0: Tensor,
    diffusion: Diffusion,
    reverse: Callable[[Tensor, Tensor], Law],
    decoder: Callable[[Tensor, Law], Tensor],
    draw: Callable[[Law, int], Tensor],
    steps: Iterable[int] | None = None,
    progress: bool = False,
) -> Bound:
    """The bound of any kernel and any reverse chain, each expectation over x_t by one draw an image and step.

    x0: (B, ...). reverse: (x_t, t) -> p(x_{t-1} | x_t), a law of the diffusion's kind. decoder: (x_0, p(· | x_1)) ->
    -log p(x_0 | x_1), (B,). draw: (q(x_t | x_0), t) -> x_t, such as ``seeded_draw()``. steps: the steps t of 2..T to
    visit, all if None. Prior and decoder are always there. Raises ValueError for steps out of range.
    """
    T, size = diffusion.schedule.T, len(x0)
    visited = torch.arange(2, T + 1) if steps is None else torch.as_tensor(list(steps), dtype=torch.int64)
    check_steps("steps", visited, 2, T)
    if len(visited.unique()) != len(visited):
        raise ValueError(f"steps: expected each step once, got {visited.tolist()}")
    terms = []
    for i in tqdm([1, *visited.tolist()], desc="bound", unit="step", disable=not progress, leave=False):
        t = torch.full((size,), i)
        x_t = draw(diffusion.marginal(x0, t), i)
        p = reverse(x_t, t)
        terms.append(decoder(x0, p) if i == 1 else step_term(diffusion, x0, x_t, t, p))
    values = torch.stack(terms, 1)
    return Bound(prior_term(diffusion, x0), values[:, 1:], values[:, 0], visited, T, math.prod(x0.shape[1:]))


def variational_bound(
    denoiser: Denoiser,
    x0: Tensor,
    schedule: Schedule | None = None,
    variance: str | Tensor = "beta",
    decoder: Callable[[Tensor, Normal], Tensor] = discretised_decoder,
    seed: int = 0,
    steps: Iterable[int] | None = None,
    progress: bool = False,
) -> Bound:
    """The bound on -log p(x_0) for the Gaussian chain whose reverse steps are the denoiser's, DDPM Eq. 5.

    x0: images, (B, ...), 8-bit in [-1, 1] for the default decoder. schedule: the steps of the chain, all of the
    denoiser's unless given; a shorter one (``Schedule.respace``) bounds the likelihood of *its* chain. variance: see
    ``reverse_variances``. decoder: ``discretised_decoder``, or ``density_decoder`` for continuous data. seed: fixes the
    noise. steps: those t of 2..T to look at, all if None; without all there is no ``total``.
    """
    schedule = schedule or denoiser.schedule
    diffusion = GaussianDiffusion(schedule)
    variances = reverse_variances(schedule, variance)

    def reverse(x_t: Tensor, t: Tensor) -> Normal:
        return reverse_step(diffusion, x_t, denoiser(x_t, schedule.steps[t]), t, variances)

    return bound_terms(x0, diffusion, reverse, decoder, seeded_draw(seed), steps, progress)


def error_ratio(objective: str, schedule: Schedule) -> Tensor:
    """r_t with ‖x_0 - x̂_0‖² = r_t ‖target - answer‖² at one x_t, (T+1,): 1 for x0, 1/SNR_t for ε, 1 - ᾱ_t for v.

    For x_0 = (x_t - √(1-ᾱ_t) ε) / √ᾱ_t = √ᾱ_t x_t - √(1-ᾱ_t) v, and x_t is the same for answer and target: that
    of ε over that of v is the square of Eq. (eq-velocity-error).
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {objective!r}")
    if objective == "x0":
        return torch.ones_like(schedule.alpha_bar)
    return schedule.one_minus_alpha_bar / (schedule.alpha_bar if objective == "eps" else 1)


def loss_weight(objective: str, schedule: Schedule, variance: str | Tensor = "beta") -> Tensor:
    """w_t with L_{t-1} = w_t ‖target - answer‖² + d · ``step_constant``, (T+1,) float64, in nats; 0 at index 0.

    objective: "eps", "x0" or "v", Eq. (eq-noise-term), (eq-weight-x0) and (eq-weight-v). For x_0 it is the squared
    weight of Eq. (eq-weight) over 2σ_t², for ε so β_t² / (2σ_t² α_t (1-ᾱ_t)), DDPM Eq. 12. variance: see
    ``reverse_variances``. At t = 1 it is the weight in ``density_decoder``; the discretised one is no square. With
    ᾱ_T = 0 the weight of ε is infinite at T.
    """
    on_x0 = before(schedule.alpha_bar).sqrt() * schedule.beta / schedule.one_minus_alpha_bar
    weight = on_x0**2 / (2 * _table(schedule, variance)) * error_ratio(objective, schedule)
    weight[0] = 0  # there is no step before the data
    return weight


def snr_weight(schedule: Schedule) -> Tensor:
    """(SNR_{t-1} - SNR_t) / 2, Eq. (eq-weight-x0-snr), (T+1,): ``loss_weight`` of x_0 for σ_t² = β̃_t, t >= 2.

    Infinite at t = 1; 0 at index 0.
    """
    weight = (before(schedule.snr) - schedule.snr) / 2
    weight[0] = 0  # there is no step before the data
    return weight


def step_constant(schedule: Schedule, variance: str | Tensor = "beta") -> Tensor:
    """What no denoiser can lower: L_{t-1}'s part a coordinate that only σ_t² decides, (T+1,) float64, in nats.

    (β̃_t/σ_t² - 1 - log(β̃_t/σ_t²)) / 2 for t >= 2, of Eq. (eq-noise-term), which is 0 for σ_t² = β̃_t; at t = 1 the
    log(2πσ_1²) / 2 of ``density_decoder``; 0 at index 0.
    """
    variances = _table(schedule, variance)
    excess = (schedule.beta_tilde - variances) / variances
    constant = (excess - excess.log1p()) / 2
    constant[0], constant[1] = 0, (2 * math.pi * variances[1]).log() / 2
    return constant


WEIGHTINGS = ("simple", "bound", "min-snr")


def training_weight(weighting: str, objective: str, schedule: Schedule, gamma: float = 5.0) -> Tensor:
    """What multiplies ``simple_loss`` at step t in training, (T+1,) float64; index 0 is not used.

    weighting: "simple", 1. "bound", ``loss_weight`` over its mean, so that a learning rate keeps its sense. "min-snr",
    min(SNR_t, gamma) for the error of x_0, Hang et al. 2023, so times ``error_ratio`` for ε and v. Where some t are
    drawn more often than others, that weighs too, as chapter 8 shows. Raises ValueError for another weighting, and for
    "bound" with ε where ᾱ_T = 0 and the weight is infinite.
    """
    if weighting == "simple":
        return torch.ones_like(schedule.alpha_bar)
    if weighting == "bound":
        weight = loss_weight(objective, schedule)
        if weight[-1].isinf():
            raise ValueError(
                "weighting: 'bound' weighs the noise infinitely where alpha_bar[T] = 0; use 'x0' or 'v'"
            )
        return weight / weight[1:].mean()
    if weighting == "min-snr":  # for the noise, where ᾱ_T = 0, it is 0 times infinity, and 1 in the limit
        return (schedule.snr.clamp(max=gamma) * error_ratio(objective, schedule)).nan_to_num(1.0)
    raise ValueError(f"weighting: expected one of {', '.join(WEIGHTINGS)}, got {weighting!r}")


def _table(schedule: Schedule, variance: str | Tensor) -> Tensor:
    variances = reverse_variances(schedule, variance)
    if variances.ndim != 1:
        raise ValueError(f"variance: expected one number a step here, got shape {tuple(variances.shape)}")
    return variances


def simple_loss(
    net: nn.Module,
    schedule: Schedule,
    objective: str,
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
) -> Tensor:
    """The square in Eq. (eq-simple-loss), mean over coordinates of (net(x_t, t, y) - target)², (B,), DDPM Eq. 14.

    x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε; the target is ε, x_0 or v by the objective (``denoiser.target``). x0, eps: (B, ...).
    t: (B,) integers in 1..T, best on the CPU. y: (B,) int64 labels or None. Raises ValueError for shapes that do not
    agree.
    """
    check_batch("x0", x0, t)
    check_steps("t", t, 1, schedule.T)
    check_same_shape("eps", eps, "x0", x0)
    x_t = GaussianDiffusion(schedule).marginal(x0, t).sample(eps)
    answer = net(x_t, moved(t, x0.device), y)
    check_same_shape("net(x_t, t, y)", answer, "x0", x0)
    wanted = target(objective, schedule, x0, eps, t)
    return (answer.float() - wanted).square().flatten(1).mean(1)


def _exact(x: Tensor) -> Tensor:
    """x in float64; on the CPU if its device has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()
