"""Langevin dynamics: noise and the score alone, at one noise level or down all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ddpm_lib.denoiser import Denoiser, Prediction, check_sampler
from ddpm_lib.kernel import Generators, standard_normal
from ddpm_lib.samplers.chains import ancestral
from ddpm_lib.samplers.walk import Step, Walk
from ddpm_lib.schedule import Schedule


@torch.no_grad()
def langevin(
    denoiser: Denoiser,
    x: Tensor,
    t: int,
    moves: int,
    size: float = 0.1,
    generators: Generators = None,
) -> Walk:
    """Langevin dynamics on q(x_t) at one step t: x ← x + a/2 ∇log q(x) + √a z, moves times from x (B, ...).

    The kernel of Eq. (eq-langevin-move) for the law of x_t. Song & Ermon 2019, Eq. 4.
    size: a in units of the noise's variance, a = size (1-ᾱ_t), the same for each image.
    """
    _check(moves, size)
    check_sampler(denoiser, denoiser.schedule, None)
    for _ in range(moves):
        seen = denoiser(x, torch.full((len(x),), t))
        moved = _move(x, seen, size, generators)
        sent = yield Step(t, t, x, moved, seen.x0, seen.eps)
        x = moved if sent is None else sent


@torch.no_grad()
def annealed_langevin(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule | None = None,
    moves: int = 5,
    size: float = 0.2,
    generators: Generators = None,
) -> Walk:
    """Langevin dynamics on q(x_t) for each step t of the schedule in turn, from the noisiest to the cleanest.

    Song & Ermon 2019, algorithm 1, whose images have no shrinking signal: so x/√ᾱ_t is what goes on to the next level.
    moves: at each level. size: see ``langevin``. The last move's answer is x̂_0 there, without its noise.
    x_T, schedule as in ``ancestral``. One ``Step`` a level: its x_t is that of the level's last move.
    """
    _check(moves, size)
    schedule, x = schedule or denoiser.schedule, x_T
    check_sampler(denoiser, schedule, None)
    steps, signal = schedule.steps.tolist(), schedule.signal.tolist()
    for i in range(schedule.T, 0, -1):
        t = torch.full((len(x),), steps[i])
        for _ in range(moves):
            x_t, seen = x, denoiser(x, t)
            x = _move(x_t, seen, size, generators)
        x = seen.x0 if i == 1 else x * (signal[i - 1] / signal[i])
        sent = yield Step(steps[i], steps[i - 1], x_t, x, seen.x0, seen.eps)
        x = x if sent is None else sent


@torch.no_grad()
def predictor_corrector(
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: Schedule | None = None,
    predictor: Callable[..., Walk] = ancestral,
    moves: int = 1,
    size: float = 0.05,
    generators: Generators = None,
    **options,
) -> Walk:
    """After each step of the predictor, moves of Langevin dynamics on q at the step that it arrived at.

    Song et al. 2021, algorithm 1, but for the size of the moves: there it is found from norms averaged over the batch,
    which couples the samples; here a = size (1-ᾱ_t), with size = 4 r² for the signal-to-noise ratio r of that paper.
    It is what theirs comes to, but for a factor α_t, where the score's square is d/(1-ᾱ_t), the mean for the score
    given x_0; the score of q_t has less, so theirs is longer where there is little noise.
    x_T, schedule as in ``ancestral``; options go to the predictor.
    """
    _check(moves, size)
    check_sampler(denoiser, schedule or denoiser.schedule, None)  # the corrector asks for the score
    way = predictor(denoiser, x_T, schedule, generators=generators, **options)
    step = next(way)
    while step is not None:
        x = step.x
        for _ in range(moves if step.t_prev > 0 else 0):
            x = _move(x, denoiser(x, torch.full((len(x),), step.t_prev)), size, generators)
        sent = yield replace(step, x=x)
        try:
            step = way.send(x if sent is None else sent)
        except StopIteration:
            step = None


def _move(x: Tensor, seen: Prediction, size: float, generators: Generators) -> Tensor:
    """x + a/2 score + √a z for a = size σ²: the score is -ε̂/σ. Its mean is Eq. (eq-move-as-denoising)."""
    return x - size / 2 * seen.sigma * seen.eps + size**0.5 * seen.sigma * standard_normal(x, generators)


def _check(moves: int, size: float) -> None:
    if moves < 1:
        raise ValueError(f"moves: expected a number >= 1, got {moves}")
    if not 0 < size < 4:
        raise ValueError(f"size: expected a number in (0, 4), beyond which the moves grow, got {size}")
