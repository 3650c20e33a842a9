"""Samplers: from noise to an image, one step at a time.

Each is a generator of ``Step``s, so that a notebook can look at any of them; ``sample`` runs one to its end.
They take any ``Denoiser``, and any sub-sequence of its schedule (``Schedule.respace``). A sampler that is given one
random generator an image draws that image's noise from it alone, so no image depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lib.denoiser import Denoiser, Prediction
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.kernel import Generators, standard_normal
from ddpm_lib.schedule import Schedule, before, spaced_steps


@dataclass(frozen=True)
class Step:
    """One step back: from x_t at step t to x at step t_prev (0 at the end), by the x0 and eps predicted there."""

    t: int
    t_prev: int
    x_t: Tensor
    x: Tensor
    x0: Tensor
    eps: Tensor


def seeded(seed: int, n: int) -> list[torch.Generator]:
    """One random generator an image: image i is the same whatever n is and whoever its neighbours are."""
    return [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(n)]


def ancestral(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule | None = None,
    variance: str = "posterior",
    generators: Generators = None,
) -> Iterator[Step]:
    """DDPM's sampler, DDPM algorithm 2: x_{t-1} ~ N(μ̃_t(x_t, x̂_0), σ_t²), Eq. (eq-reverse-step).

    x_T: (B, ...) noise from π. schedule: the steps to visit, all of the denoiser's unless given.
    variance: σ_t² = β̃_t ("posterior") or β_t ("beta"). The last step adds no noise.
    """
    if variance not in ("posterior", "beta"):
        raise ValueError(f"variance: expected 'posterior' or 'beta', got {variance!r}")
    schedule = schedule or denoiser.schedule
    kernel = GaussianDiffusion(schedule)

    def mean(x_t: Tensor, seen: Prediction, i: Tensor) -> Tensor:
        return kernel.posterior(x_t, seen.x0, i).mean

    variances = schedule.beta_tilde if variance == "posterior" else schedule.beta
    return _walk(denoiser, x_T, schedule, mean, variances, generators)


def ddim(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule | None = None,
    eta: float = 0.0,
    generators: Generators = None,
) -> Iterator[Step]:
    """DDIM's sampler, DDIM Eq. 12 and 16: x_s = √ᾱ_s x̂_0 + √(1-ᾱ_s-σ²) ε̂ + σ z, from step t to the one before, s.

    eta: σ = η √β̃_t of the schedule's own steps. 0 is deterministic; 1 is ancestral sampling with β̃_t.
    x_T, schedule as in ``ancestral``. Raises ValueError unless 0 <= eta <= 1, where the radicand can't be negative.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a number in [0, 1], got {eta}")
    schedule = schedule or denoiser.schedule
    variances = eta**2 * schedule.beta_tilde
    keep = before(schedule.alpha_bar).sqrt()
    direction = (before(schedule.one_minus_alpha_bar) - variances).sqrt()  # >= 0, as β̃_t <= 1 - ᾱ_{t-1}

    def mean(x_t: Tensor, seen: Prediction, i: Tensor) -> Tensor:
        return schedule.at(keep, i, x_t) * seen.x0 + schedule.at(direction, i, x_t) * seen.eps

    return _walk(denoiser, x_T, schedule, mean, variances, generators)


@torch.no_grad()
def _walk(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule,
    mean: Callable[[Tensor, Prediction, Tensor], Tensor],
    variances: Tensor,
    generators: Generators,
) -> Iterator[Step]:
    """From x_T back to x_0: ask the denoiser, form the step's mean, add its noise, but in the last step."""
    x_t, steps = x_T, schedule.steps.tolist()
    for i in range(schedule.T, 0, -1):
        seen = denoiser(x_t, torch.full((len(x_t),), steps[i]))
        here = torch.full((len(x_t),), i)
        x = mean(x_t, seen, here)
        if i > 1 and variances[i] > 0:
            x = x + schedule.at(variances.sqrt(), here, x_t) * standard_normal(x_t, generators)
        yield Step(steps[i], steps[i - 1], x_t, x, seen.x0, seen.eps)
        x_t = x


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    sampler: Callable[..., Iterator[Step]] = ddim,
    steps: int | None = None,
    spacing: str = "uniform",
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
    **options,
) -> Tensor:
    """Draw images from noise, (B, ...) float32 of the given shape, by the sampler's last step.

    steps: how many steps of the denoiser's schedule to visit, all if None, chosen by ``spaced_steps``.
    seed: image i's noise comes from (seed, i) alone. options: passed to the sampler, such as eta or variance.
    """
    schedule = denoiser.schedule
    if steps is not None:
        schedule = schedule.respace(spaced_steps(schedule.T, steps, spacing))
    generators = seeded(seed, shape[0])
    x_T = standard_normal(torch.empty(shape, device=device), generators)
    walk = sampler(denoiser, x_T, schedule, generators=generators, **options)
    x = x_T
    for step in tqdm(walk, total=schedule.T, desc="sampling", unit="step", disable=not progress, leave=False):
        x = step.x
    return x
