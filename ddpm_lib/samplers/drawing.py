"""A whole way run to its end: images out of noise, each by a seed of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lib.denoiser import Denoiser
from ddpm_lib.kernel import standard_normal
from ddpm_lib.samplers.chains import ddim
from ddpm_lib.samplers.walk import Walk


def seeded(seed: int, n: int) -> list[torch.Generator]:
    """One random generator an image: image i is the same whatever n is and whoever its neighbours are."""
    return [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(n)]


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    sampler: Callable[..., Walk] = ddim,
    steps: int | None = None,
    spacing: str = "uniform",
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
    return_every: int | None = None,
    **options,
) -> Tensor:
    """Draw images from noise, (B, ...) float32 of the given shape, by the sampler's last step.

    steps: how many steps of the denoiser's schedule to visit, all if None, chosen by ``Schedule.spaced``.
    seed: image i's noise comes from (seed, i) alone. return_every: also keep the noise, each so many-th state and the
    last, for pictures; the answer is then (states, B, ...), on the CPU. options: passed to the sampler, such as eta.
    """
    if return_every is not None and return_every < 1:
        raise ValueError(f"return_every: expected a number of steps >= 1, got {return_every}")
    schedule = denoiser.schedule
    if steps is not None:
        schedule = schedule.spaced(steps, spacing)
    generators = seeded(seed, shape[0])
    x = standard_normal(torch.empty(shape, device=device), generators)
    states = [x.cpu()] if return_every else []
    way = sampler(denoiser, x, schedule, generators=generators, **options)
    bar = tqdm(way, total=schedule.T, desc="sampling", unit="step", disable=not progress, leave=False)
    for number, step in enumerate(bar, 1):
        x = step.x
        if return_every and (number % return_every == 0 or step.t_prev == 0):
            states.append(x.cpu())
    return torch.stack(states) if return_every else x
