"""The one interface of the two diffusion kernels, so that the same code walks, draws and measures either chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ddpm_lib._device import moved
from ddpm_lib.schedule import Schedule

Generators = torch.Generator | Sequence[torch.Generator] | None


@runtime_checkable
class Law(Protocol):
    """A distribution of images (B, ...) with independent coordinates, such as ``Normal`` and ``Bernoulli``."""

    def sample(self, noise: Tensor, /) -> Tensor:
        """An image from noise of its shape: standard normal numbers for ``Normal``, uniform ones for ``Bernoulli``."""

    def draw(self, generators: Generators = None) -> Tensor:
        """An image from noise that the law draws itself; generators: one for the batch, one an image, or None."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log density, or log probability, of each coordinate of x, in nats, in x's shape."""


L = TypeVar("L", bound=Law)


@runtime_checkable
class Diffusion(Protocol[L]):
    """A forward chain q with a schedule, and its laws, over images (B, ...); t: (B,) integers on any device.

    Each law comes in the dtype and on the device of the images. A step out of range, shapes that do not agree and
    images that the chain can't hold raise ValueError.
    """

    schedule: Schedule

    def step(self, x_prev: Tensor, t: Tensor) -> L:
        """q(x_t | x_{t-1}), t in 1..T."""

    def marginal(self, x0: Tensor, t: Tensor) -> L:
        """q(x_t | x_0), t in 0..T; at t = 0 it is x_0 itself."""

    def posterior(self, x_t: Tensor, x0: Tensor, t: Tensor) -> L:
        """q(x_{t-1} | x_t, x_0), t in 1..T; at t = 1 it is x_0 itself."""

    def prior(self, like: Tensor) -> L:
        """π, which each step leaves as it is, for images shaped as like."""

    def kl(self, p: L, q: L) -> Tensor:
        """KL(p ‖ q) in nats, summed over each image's coordinates, (B,)."""


@torch.no_grad()
def trajectory(diffusion: Diffusion, x0: Tensor, generators: Generators = None) -> Iterator[Tensor]:
    """One walk x_0, x_1, ..., x_T of the forward chain, step by step: T + 1 states, each (B, ...) as x0."""
    x = x0
    yield x
    for t in range(1, diffusion.schedule.T + 1):
        x = diffusion.step(x, torch.full((len(x0),), t)).draw(generators)
        yield x


def standard_normal(like: Tensor, generators: Generators = None) -> Tensor:
    """ε ~ N(0, I) in like's shape (B, ...), dtype and device; drawn on the generators' device.

    generators: one for the whole batch, or B of them, one an image. Raises ValueError for another number.
    """
    return _drawn(Tensor.normal_, like, like.dtype, generators)


def uniform(like: Tensor, generators: Generators = None) -> Tensor:
    """Uniform numbers in [0, 1), as ``standard_normal``, but float32 at least: of 8 bits no rare event can be drawn."""
    return _drawn(Tensor.uniform_, like, torch.promote_types(like.dtype, torch.float32), generators)


def _drawn(fill: Callable[..., Tensor], like: Tensor, dtype: torch.dtype, generators: Generators) -> Tensor:
    if like.device.type == "meta" or generators is None:
        return fill(torch.empty(like.shape, dtype=dtype, device=like.device))
    if isinstance(generators, torch.Generator):
        drawn = torch.empty(like.shape, dtype=dtype, device=generators.device)
        return moved(fill(drawn, generator=generators), like.device)
    if len(generators) != len(like):
        raise ValueError(f"generators: expected one an image, {len(like)}, got {len(generators)}")
    drawn = torch.empty(like.shape, dtype=dtype, device=generators[0].device if generators else like.device)
    for row, generator in zip(drawn, generators, strict=True):
        fill(row, generator=generator)
    return moved(drawn, like.device)
