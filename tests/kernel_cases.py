"""Both diffusion kernels on every kind of schedule, and the sums by which tests ask what their laws are: over a bit's
two states by enumeration, over a real pixel by quadrature. Nothing else tells the kernels apart."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from ddpm_lib.binomial import BinomialDiffusion
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.schedule import constant_share, cosine, from_betas, linear

SCHEDULES = {
    "linear": linear(),
    "cosine": cosine(),
    "by hand": from_betas([0.3, 0.05, 0.6, 0.2]),
    "constant share": constant_share(9),  # alpha_bar_T = 0
    "respaced": linear().respace([1, 40, 700]),
}
KINDS = (GaussianDiffusion, BinomialDiffusion)
KERNELS = [
    pytest.param(kind(schedule), id=f"{kind.__name__.removesuffix('Diffusion')}, {name}")
    for kind in KINDS
    for name, schedule in SCHEDULES.items()
]
EACH_KIND = [pytest.param(kind(linear()), id=kind.__name__) for kind in KINDS]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(kernel, *shape, seed=0, dtype=torch.float64):
    """Clean images that the kernel can hold: bits, or numbers in [-1, 1]."""
    u = torch.rand(shape, generator=generator(seed), dtype=torch.float64)
    return ((u > 0.5) if isinstance(kernel, BinomialDiffusion) else 2 * u - 1).to(dtype)


def other_images(kernel, x0):
    """Clean images that differ from x0 in each pixel."""
    return 1 - x0 if isinstance(kernel, BinomialDiffusion) else -0.5 * x0 + 0.2


def two_states(kernel, law):
    """Two states that the law allows: both bits, or one on each side of the mean."""
    if isinstance(kernel, BinomialDiffusion):
        return torch.zeros_like(law.prob), torch.ones_like(law.prob)
    return law.mean - law.var.sqrt(), law.mean + 2 * law.var.sqrt()


def some_steps(kernel, first=1):
    """Steps at both ends and between, (B,)."""
    T = kernel.schedule.T
    return torch.tensor(sorted({t for t in (first, 2, 3, T // 2, T - 1, T) if first <= t <= T}))


def tensors(law):
    return {field.name: getattr(law, field.name) for field in dataclasses.fields(law)}


def laws(kernel, x0, t):
    """Each of the kernel's laws for these images."""
    x_t = kernel.marginal(x0, t).draw(generator(1))
    return {
        "step": kernel.step(x0, t),
        "marginal": kernel.marginal(x0, t),
        "posterior": kernel.posterior(x_t, x0, t),
        "prior": kernel.prior(x0),
    }


def states_before(kernel, before, x_t, t):
    """The states x_{t-1}, (B, N), and their weight, (B, 1), in sums of before(x_{t-1}) q(x_t | x_{t-1}) over them.

    For a real pixel: the trapezoidal rule, which for a normal density is exact to rounding if the spacing is a
    fraction of its width. The product of the two factors is narrower than each and lies between them.
    """
    if isinstance(kernel, BinomialDiffusion):
        return torch.tensor([0.0, 1.0], dtype=x_t.dtype).expand(len(x_t), 2), torch.ones_like(x_t)
    schedule = kernel.schedule
    scale = schedule.at(schedule.alpha, t, x_t).sqrt()
    pointed_at = torch.where(scale > 0, x_t / scale, before.mean)
    width = torch.minimum(before.var.sqrt(), schedule.at(schedule.beta, t, x_t).sqrt() / scale)
    low = torch.minimum(before.mean, pointed_at) - 12 * width
    high = torch.maximum(before.mean, pointed_at) + 12 * width
    spacing = (high - low) / 20_000
    assert (spacing < width / 4).all()
    return low + spacing * torch.arange(20_001), spacing


def joint(kernel, before, x_t, t):
    """x_{t-1}, (B, N), and before(x_{t-1}) q(x_t | x_{t-1}) there, with the weight of each state, (B, 1)."""
    x_prev, weight = states_before(kernel, before, x_t, t)
    return x_prev, (before.log_prob(x_prev) + kernel.step(x_prev, t).log_prob(x_t)).exp(), weight


def expectation(law, of):
    """E[of(x)] for images of one pixel, (B, 1), by enumeration or Gauss-Hermite quadrature. of: (B, N) to (B, N)."""
    if "prob" in tensors(law):
        x = torch.tensor([0.0, 1.0], dtype=law.prob.dtype).expand(len(law.prob), 2)
        weight = torch.cat([law.rest, law.prob], 1)
    else:
        nodes, weight = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(40))
        x, weight = law.mean + law.var.sqrt() * nodes, weight / math.sqrt(2 * math.pi)
    return (weight * of(x)).sum(1, keepdim=True)
