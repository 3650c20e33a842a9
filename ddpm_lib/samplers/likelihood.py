"""The probability-flow ODE as a map with an inverse: states carried along it, and the exact likelihood that it gives.

In λ = ½ log SNR, the chain's noise level on a logarithmic axis, the ODE is dx/dλ = √ᾱ (x̂_0 - √ᾱ x), and the log
density that it carries changes by minus its divergence, ᾱ d - √ᾱ tr ∂x̂_0/∂x. scipy integrates both together, each
image on its own, so that no image depends on its neighbours.

Between two steps of the schedule λ runs on. A denoiser with a method ``at_level``, as the oracles have it, is asked at
any level. A network knows whole steps only: there x̂_0 is the mean, weighed linearly in λ, of its answers at the two
steps around, each at the same x/√ᾱ. That makes of it a *continuous* field, whose flow has an inverse and a density; the
likelihood is exact for this flow. From an exact denoiser asked at each level it differs by the curvature of x̂_0 over
one step of λ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from tqdm import tqdm

from ddpm_lib._device import tf32
from ddpm_lib.denoiser import Clipped, Denoiser, check_sampler
from ddpm_lib.samplers.drawing import seeded

Array = TypeVar("Array", Tensor, np.ndarray)
EXACT_UP_TO = 64  # coordinates for which the trace is summed and not estimated
PROBES = 4


@dataclass(frozen=True)
class FlowLikelihood:
    """What ``flow_likelihood`` finds for B images.

    log_prob: log p(x_t), (B,) float64, in nats. x_T: where the flow takes the images, in their shape and dtype. error:
    (B,) float64, the standard error of log_prob from the probes alone, with nothing of the integrator's in it; 0 where
    the trace is exact, NaN for one probe. questions: (B,) int64, how often the integrator asked, all probes at once.
    """

    log_prob: Tensor
    x_T: Tensor
    error: Tensor
    questions: Tensor


def velocity(alpha_bar: float, x: Array, x0: Array) -> Array:
    """dx/dλ = √ᾱ (x̂_0 - √ᾱ x) of the probability-flow ODE, Eq. (eq-flow-lambda), in x's shape.

    alpha_bar: ᾱ of the level, in (0, 1). x, x0: states and the clean images predicted there, of one shape.
    """
    return math.sqrt(alpha_bar) * (x0 - math.sqrt(alpha_bar) * x)


def flow(
    denoiser: Denoiser, x: Tensor, start: int, end: int, y: Tensor | None = None, tolerance: float = 1e-5
) -> Tensor:
    """Carry states at step start along the probability-flow ODE to step end, up or down, in x's shape and dtype.

    x: (B, ...) float32 or float64. start, end: steps in 1..T; at 0, where λ is infinite, the last step is a sampler's.
    y: (B,) integer labels for a denoiser with ``given``, or None. tolerance: of scipy's RK45, relative and absolute,
    for each of its steps; over the whole way more comes together. Song et al. 2021, Eq. 13. Raises ValueError for bad
    input or ᾱ_T = 0, RuntimeError where no step is small enough or an answer is not finite.
    """
    way = _Way(denoiser, x, start, end, y, tolerance)
    return torch.stack([way.carried(i)[0] for i in range(len(x))]).to(x)


def flow_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    t: int = 1,
    y: Tensor | None = None,
    probes: int | None = None,
    seed: int = 0,
    tolerance: float = 1e-5,
    progress: bool = False,
) -> FlowLikelihood:
    """log p(x_t) of states at step t, where p is π = N(0, I) carried from T to t by the flow. Song et al. 2021, Eq. 39.

    Exact for that law up to the integrator's error and the trace's. It is the law of x_t itself where the denoiser is
    exact and x_T is standard normal, up to ᾱ_T. x: (B, ...) float32 or float64; a network is asked in this dtype,
    without autocast around it and without TF32. probes: how many random sign vectors z estimate the trace by z'Jz
    (Hutchinson), image i's from (seed, i) alone; 0 for the exact trace; None for that up to 64 coordinates, and for 4
    probes beyond. y and errors: as in ``flow``. tolerance: each step's, for log p in nats a coordinate; on mixtures of
    one coordinate the whole way was off by up to 50 times as much, so halve it and compare. The denoiser is asked five
    times more, halfway in λ, and refused with a ValueError where its answers vary or its gradient is not that of its
    answers.
    """
    way = _Way(denoiser, x, t, denoiser.schedule.T, y, tolerance, name="t")
    d = math.prod(x.shape[1:])
    if probes is None:
        probes = 0 if d <= EXACT_UP_TO else PROBES
    if not isinstance(probes, int) or isinstance(probes, bool) or probes < 0:
        raise ValueError(f"probes: expected a number >= 1, or 0 for the exact trace, got {probes!r}")
    log_prob, error, x_T, questions = [], [], [], []
    bar = tqdm(seeded(seed, len(x)), desc="likelihood", unit="image", disable=not progress, leave=False)
    for i, generator in enumerate(bar):
        signs = 2 * torch.randint(2, (max(probes, 1), d), generator=generator) - 1
        way.check_gradient(i, signs[:1].to(x))
        signs = signs if probes else torch.eye(d)
        end, gained, asked = way.carried(i, signs.to(x), summed=not probes)
        log_prior = -0.5 * (end.square().sum() + d * math.log(2 * math.pi))
        log_prob.append(log_prior + gained.mean())
        spread = gained.std() if probes > 1 else torch.full_like(log_prior, math.nan if probes else 0)
        error.append(spread / math.sqrt(max(probes, 1)))
        x_T.append(end)
        questions.append(asked)
    ends = torch.stack(x_T).to(x)
    return FlowLikelihood(torch.stack(log_prob), ends, torch.stack(error), torch.tensor(questions))


class _Way:
    """The way between two steps along the ODE, for one image at a time."""

    def __init__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        start: int,
        end: int,
        y: Tensor | None,
        tolerance: float,
        name: str = "start",
    ):
        schedule = denoiser.schedule
        if (
            not isinstance(x, Tensor)
            or x.dtype not in (torch.float32, torch.float64)
            or x.ndim < 1
            or not len(x)
        ):
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x: expected a batch (B, ...), B >= 1, of float32 or float64, got {got}")
        if not x.isfinite().all():
            raise ValueError("x: expected finite numbers, got NaN or infinity")
        for called, step in ((name, start), ("end", end)):
            if not isinstance(step, int) or isinstance(step, bool) or not 1 <= step <= schedule.T:
                raise ValueError(f"{called}: expected a step in 1..{schedule.T}, got {step!r}")
        if schedule.ends_in_noise:
            raise ValueError("schedule: expected alpha_bar[T] > 0 for the ODE, got 0")
        if not 1e-12 <= tolerance <= 0.01:
            raise ValueError(f"tolerance: expected a number in [1e-12, 0.01], got {tolerance}")
        integers = isinstance(y, Tensor) and not (
            y.is_floating_point() or y.is_complex() or y.dtype == torch.bool
        )
        check_sampler(denoiser, schedule, None)
        asked = denoiser
        while isinstance(asked, Clipped):
            asked = asked.denoiser
        told = hasattr(asked, "given") and not hasattr(asked, "at_level")  # of any level, but not of a class
        if y is not None and not (integers and told and y.shape == x.shape[:1]):
            got = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(
                f"y: expected None, or one label an image, {len(x)} integers, and a denoiser with ``given`` and "
                f"without ``at_level``, got {got} for {type(denoiser).__name__}"
            )
        self.denoiser, self.x, self.y, self.tolerance = denoiser, x.detach(), y, tolerance
        self.start, self.end = start, end
        self.signal = schedule.signal.tolist()
        self.half_log_snr = (schedule.snr[1:].log() / 2).numpy()  # of the steps 1..T, falling

    def check_gradient(self, i: int, signs: Tensor) -> None:
        """Raise ValueError unless z'Jz of one row of signs, (1, d), is what a difference of answers says as well.

        Asked at image i, halfway in λ between the step and T, where the field is smooth on the scale of σ.
        """
        x, half_log_snr = self.x[i], float(self.half_log_snr[[self.start - 1, self.end - 1]].mean())
        z, share = signs.view(x.shape), 1 / (1 + math.exp(-2 * half_log_snr))
        step = math.sqrt(1 - share) * (1e-2 if x.dtype == torch.float32 else 1e-4)
        x0, pulled = self._guess(half_log_snr, x, i, signs)
        with torch.no_grad(), _exactly(x.device):
            above, below, again = self._between(half_log_snr, torch.stack([x + step * z, x - step * z, x]), i)
        # A difference of answers is of no use where they are no numbers; the way itself says so in its own words.
        if not (above.isfinite().all() and below.isfinite().all() and x0.isfinite().all()):
            return
        if (again - x0).abs().max() > 1e-3 * x0.abs().max().clamp(min=1):
            raise ValueError(
                "denoiser: expected one answer to one question, got two (is a network in training mode?)"
            )
        pushed = (above - below) / (2 * step)
        wanted, found = (pushed * z).sum().item(), pulled.item()
        scale = 0.1 * max(abs(wanted), abs(found)) + 0.01 * (pushed.norm() * z.norm()).item()
        if abs(wanted - found) > scale:
            raise ValueError(
                f"denoiser: expected its gradient in x to be that of its answers, z'Jz = {wanted:.3g}, got {found:.3g} "
                "(is a part of it detached, or does it mix the images of a batch?)"
            )

    def carried(
        self, i: int, signs: Tensor | None = None, summed: bool = False
    ) -> tuple[Tensor, Tensor, int]:
        """Image i at the end of the way (...), the integral of the divergence over λ on it, and the questions.

        signs: rows z, (P, d), each with an integral of its own by z'Jz, (P,); summed: their sum is one integral, (1,).
        """
        image, d = self.x[i], self.x[i].numel()
        counts = 0 if signs is None else 1 if summed else len(signs)
        if self.start == self.end:
            return image.cpu().double(), torch.zeros(counts, dtype=torch.float64), 0

        def slope(half_log_snr: float, state: np.ndarray) -> np.ndarray:
            share = 1 / (1 + math.exp(-2 * half_log_snr))  # ᾱ
            x = torch.from_numpy(state[:d]).to(image).view(image.shape)
            x0, turned = self._guess(half_log_snr, x, i, signs)
            if not x0.isfinite().all():
                raise RuntimeError(
                    f"the denoiser's answer to image {i} is not finite at λ = {half_log_snr:.3f}"
                )
            change = velocity(share, state[:d], x0.cpu().double().flatten().numpy())
            if turned is None:
                return change
            trace = turned.sum(0, keepdim=True) if summed else turned
            return np.concatenate([change, math.sqrt(share) * trace.cpu().double().numpy() - share * d])

        state = np.concatenate([image.cpu().double().flatten().numpy(), np.zeros(counts)])
        absolute = np.full(len(state), self.tolerance)
        absolute[d:] *= d / math.sqrt(len(state))  # scipy takes the mean square over the whole state
        relative = np.where(np.arange(len(state)) < d, self.tolerance, 1e-13)
        ends = [self.half_log_snr[step - 1] for step in (self.start, self.end)]
        found = solve_ivp(slope, ends, state, t_eval=ends[1:], rtol=relative, atol=absolute)
        if not found.success:
            raise RuntimeError(f"the ODE could not be integrated at this tolerance: {found.message}")
        last = torch.from_numpy(found.y[:, -1])
        return last[:d].view(image.shape), last[d:], found.nfev

    def _guess(
        self, half_log_snr: float, x: Tensor, i: int, signs: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """x̂_0 at the state x (...) of this level, and z'Jz of its Jacobian for each row z of signs, (P,)."""
        with torch.set_grad_enabled(signs is not None), _exactly(x.device):
            rows = x.expand(1 if signs is None else len(signs), *x.shape).clone()
            rows.requires_grad_(signs is not None)
            x0 = self._between(half_log_snr, rows, i)
            if signs is None:
                return x0[0], None
            if not x0.requires_grad:
                raise ValueError(
                    "denoiser: expected answers with a gradient in x_t, got one without (no_grad?)"
                )
            (pulled,) = torch.autograd.grad((x0.reshape(signs.shape) * signs).sum(), rows)
        return x0[0].detach(), (pulled.reshape(signs.shape) * signs).sum(1)

    def _between(self, half_log_snr: float, rows: Tensor, i: int) -> Tensor:
        """x̂_0 of rows (P, ...), states of image i, at a level between two steps, or at one."""
        if hasattr(self.denoiser, "at_level"):
            log_alpha_bar = -math.log1p(math.exp(-2 * half_log_snr))
            return self.denoiser.at_level(log_alpha_bar)(rows, torch.ones(len(rows), dtype=torch.int64)).x0
        table, here = self.half_log_snr, math.sqrt(1 / (1 + math.exp(-2 * half_log_snr)))
        later = int(np.clip(np.searchsorted(-table, -half_log_snr), 1, len(table) - 1))
        part = float(np.clip((table[later - 1] - half_log_snr) / (table[later - 1] - table[later]), 0, 1))
        around = [(step, weight) for step, weight in ((later, 1 - part), (later + 1, part)) if weight > 0]
        states = torch.cat([rows * (self.signal[step] / here) for step, _ in around])
        t = torch.tensor([step for step, _ in around]).repeat_interleave(len(rows))
        denoiser = self.denoiser if self.y is None else self.denoiser.given(self.y[i].expand(len(states)))
        answers = denoiser(states, t).x0.view(len(around), *rows.shape)
        return sum(weight * answer for (_, weight), answer in zip(around, answers, strict=True))


@contextmanager
def _exactly(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32: their rounding would be noise in the field, and in differences of its answers."""
    with torch.autocast(device.type, enabled=False), tf32(device, False):
        yield
