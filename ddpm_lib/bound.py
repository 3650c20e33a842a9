"""What training minimises."""

from __future__ import annotations

from torch import Tensor, nn

from ddpm_lib._checks import check_batch, check_same_shape, check_steps
from ddpm_lib.denoiser import target
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.schedule import Schedule


def simple_loss(
    net: nn.Module,
    schedule: Schedule,
    objective: str,
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
) -> Tensor:
    """The simple loss of each image, (B,): mean over coordinates of (net(x_t, t, y) - target)², DDPM Eq. 14.

    x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε; the target is ε, x_0 or v by the objective (``denoiser.target``). x0, eps: (B, ...).
    t: (B,) integers in 1..T, best on the CPU. y: (B,) int64 labels or None. Raises ValueError for shapes that do not
    agree.
    """
    check_batch("x0", x0, t)
    check_steps("t", t, 1, schedule.T)
    check_same_shape("eps", eps, "x0", x0)
    x_t = GaussianDiffusion(schedule).marginal(x0, t).sample(eps)
    answer = net(x_t, t.to(x0.device, non_blocking=True), y)
    check_same_shape("net(x_t, t, y)", answer, "x0", x0)
    wanted = target(objective, schedule, x0, eps, t)
    return (answer.float() - wanted).square().flatten(1).mean(1)
