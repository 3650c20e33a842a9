"""A training loop against the clock, for the packages that leave the loop to their user.

It has what a careful user would give each of them: shuffled epochs from memory, fused AdamW, warm-up and cosine decay
along the time that is left, gradient clipping, an average of the weights, bf16.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddpm_lib.data import Images, to_unit

CLASSES = 10
STEPS = 20


@dataclass(frozen=True)
class Recipe:
    """How to train. Shares are of the time there is."""

    batch: int = 32
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: float = 0.02
    """Share of the time over which the learning rate rises."""
    warmup_steps: int = 0
    """The same in steps, where a package's documentation counts in them."""
    cosine: bool = True
    """Whether the learning rate falls to 0 along half a cosine."""
    clip: float | None = 1.0
    average: Callable[[nn.Module], Average] | None = None
    """Makes the average of the weights; None samples the last ones."""
    accumulate: int = 1
    """Batches a step."""
    bf16: bool = True
    """Whether training computes in bf16."""
    sample_bf16: bool = False
    """Whether sampling does too."""

    def sampling(self) -> torch.autocast:
        """The context to sample in."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.sample_bf16)


class Average(Protocol):
    """An average of a network's weights."""

    module: nn.Module

    def update(self, gone: float) -> None:
        """Take the network's present weights in; gone is the share of the time that has passed."""


class HalfLife:
    """An exponential average whose half-life is ``share`` of the run, and early on ``ramp`` of what has passed."""

    def __init__(self, model: nn.Module, share: float = 0.03, ramp: float = 0.05):
        self.model, self.share, self.ramp = model, share, ramp
        self.before = self.gone = 0.0
        self.kept = AveragedModel(model, multi_avg_fn=self._blend)

    @property
    def module(self) -> nn.Module:
        return self.kept.module

    def update(self, gone: float) -> None:
        self.before, self.gone = self.gone, gone
        self.kept.update_parameters(self.model)

    def _blend(self, average: list[Tensor], current: list[Tensor], _) -> None:
        half_life = max(min(self.share, self.ramp * self.gone), 1e-9)
        torch._foreach_lerp_(average, current, 1 - 2 ** -((self.gone - self.before) / half_life))


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
    images: Images,
    recipe: Recipe,
    seconds: float,
) -> tuple[nn.Module, int]:
    """Train for that many seconds, one step at least; returns the averaged network and the images it saw.

    loss: (model, x (B, 1, 28, 28) in [-1, 1], labels (B,) int64) -> scalar.
    """
    begun = time.perf_counter()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    average, step = None if recipe.average is None else recipe.average(model), 0
    batches = shuffled(images, recipe.batch)
    model.train()
    while (gone := (time.perf_counter() - begun) / seconds) < 1 or step == 0:
        for group in optimizer.param_groups:
            group["lr"] = lr_at(recipe, step, gone)
        for _ in range(recipe.accumulate):
            x, y = next(batches)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
                value = loss(model, x, y) / recipe.accumulate
            value.backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if average is not None:
            average.update(gone)
    module = model if average is None else average.module
    return module.eval().requires_grad_(False), step * recipe.batch * recipe.accumulate


def lr_at(recipe: Recipe, step: int, gone: float) -> float:
    """The learning rate of this step, when this share of the time is gone."""
    lr = recipe.lr * min(1, gone / max(recipe.warmup, 1e-9), (step + 1) / max(recipe.warmup_steps, 1))
    if recipe.cosine and gone > recipe.warmup:
        lr *= (1 + math.cos(math.pi * min((gone - recipe.warmup) / (1 - recipe.warmup), 1))) / 2
    return lr


def shuffled(images: Images, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for ever: every image once an epoch, in a new order each; a last part of an epoch is left out."""
    x = to_unit(images.pixels)
    while True:
        for index in torch.randperm(len(x)).split(batch):
            if len(index) == batch or batch > len(x):
                yield x[index], images.labels[index]


def middle_times(n: int, T: int = 1000) -> Tensor:
    """n steps of 0..T-1, more often around the middle: logit-normal, as Stable Diffusion 3 draws them."""
    return (torch.sigmoid(torch.randn(n)) * T).long().clamp(0, T - 1)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def chunks(n: int, labels: Tensor | None, size: int = 250) -> Iterator[tuple[int, Tensor | None]]:
    """The parts in which n images are sampled, so that memory stays small."""
    for start in range(0, n, size):
        count = min(size, n - start)
        yield count, None if labels is None else labels[start : start + count]
