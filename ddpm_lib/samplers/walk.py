"""The way back from noise to an image, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_lib.denoiser import Denoiser, Prediction, check_sampler
from ddpm_lib.kernel import Generators, standard_normal
from ddpm_lib.schedule import Schedule


@dataclass(frozen=True)
class Step:
    """One step: from x_t at step t to x at step t_prev (0 at the end), by the x0 and eps predicted at x_t."""

    t: int
    t_prev: int
    x_t: Tensor
    x: Tensor
    x0: Tensor
    eps: Tensor


Walk = Generator[Step, Tensor | None, None]
"""A sampler's steps. Who sends a tensor into it puts that in the place of the step's x: so a corrector works."""


@torch.no_grad()
def walk(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule,
    mean: Callable[[Tensor, Prediction, int], Tensor],
    variances: Tensor | None = None,
    generators: Generators = None,
) -> Walk:
    """From x_T (B, ...) back to x_0: ask the denoiser, form the step's mean, add its noise, but in the last step.

    mean: of (x_t, what the denoiser sees there, the index i of the step in the schedule), in x_t's shape.
    variances: of the noise, (T+1,) or (T+1, ...) where pixels differ, by index; None for no noise. Raises ValueError
    for a denoiser that answers for another sampler's steps or noise.
    """
    check_sampler(denoiser, schedule, variances)
    x_t, steps, sigma = x_T, schedule.steps.tolist(), _deviations(variances, x_T)
    for i in range(schedule.T, 0, -1):
        seen = denoiser(x_t, torch.full((len(x_t),), steps[i]))
        x = mean(x_t, seen, i)
        scale = sigma(i)
        if i > 1 and (isinstance(scale, Tensor) or scale > 0):
            x = x + scale * standard_normal(x_t, generators)
        sent = yield Step(steps[i], steps[i - 1], x_t, x, seen.x0, seen.eps)
        x_t = x if sent is None else sent


def _deviations(variances: Tensor | None, like: Tensor) -> Callable[[int], float | Tensor]:
    """The noise's standard deviation by index: a number, 0 where there is none, or (...) where pixels differ."""
    if variances is None:
        return lambda i: 0.0
    if variances.ndim == 1:
        return variances.sqrt().tolist().__getitem__
    return lambda i: variances[i].sqrt().to(like.dtype).to(like.device)
