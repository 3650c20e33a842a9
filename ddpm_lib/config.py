"""What a training run is, as one flat typed record that JSON can hold."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ddpm_lib import schedule as schedules
from ddpm_lib.schedule import Schedule
from ddpm_lib.unet import UNetConfig


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run. Lengths are counted in images seen, not in steps."""

    model: UNetConfig = field(default_factory=UNetConfig)
    """The network."""
    data: str = "mnist5k"
    """Name of the data set."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Noise schedule."""
    T: int = 1000
    """Number of noising steps."""
    objective: Literal["eps", "x0", "v"] = "v"
    """What the network predicts."""
    times: Literal["uniform", "middle"] = "middle"
    """How training draws t from 1..T: evenly, or more often around the middle (logit-normal)."""
    images: int = 140_000
    """Length of the run."""
    batch: int = 16
    """Images a step."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 3_000
    """Images over which the learning rate rises from 0; then it falls to 0 along half a cosine."""
    adam_betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's two decay rates."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    clip_gradient: float = 1.0
    """Largest norm of the gradient."""
    label_dropout: float = 0.1
    """Share of labels replaced by the null label, which is what sampling without a class asks for."""
    ema_half_life: int = 4_000
    """Half-life of the averaged weights."""
    ema_ramp: float = 0.05
    """Early on the half-life is this share of the images seen, so that the average forgets its start."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the hardware computes in bf16 (CUDA; CPUs with AVX512-BF16 or AMX), else fp32."""
    seed: int = 0
    """Decides initial weights and every draw of every step."""
    checkpoint_every: int = 20_000
    """Images between checkpoints."""
    keep: int = 2
    """How many checkpoints stay on disk."""
    log_every: int = 20
    """Steps between points of the loss curve."""

    def __post_init__(self):
        for name in ("T", "images", "batch", "ema_half_life", "checkpoint_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip_gradient", "ema_ramp"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("warmup", "seed", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout: expected a share in [0, 1], got {self.label_dropout}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")

    def make_schedule(self) -> Schedule:
        """The schedule of this run's T steps."""
        return {"linear": schedules.linear, "cosine": schedules.cosine}[self.schedule](self.T)

    def lr_at(self, images_seen: int) -> float:
        """The learning rate of the update after so many images, 0 or more.

        A straight rise over ``warmup``, Eq. (eq-warm-up), then half a cosine down to 0, Eq. (eq-learning-rate).
        """
        if images_seen < self.warmup:
            return self.lr * (images_seen + self.batch) / (self.warmup + self.batch)
        progress = (images_seen - self.warmup) / max(self.images - self.warmup, 1)
        return self.lr / 2 * (1 + math.cos(math.pi * min(progress, 1)))

    def half_life_at(self, images_seen: int) -> float:
        """The average's half-life after so many images, in images, Eq. (eq-ema-ramp): short while the run is young."""
        return min(self.ema_half_life, self.ema_ramp * images_seen)

    def decay_at(self, images_seen: int) -> float:
        """The average's decay in the update that ends there, 2^(-batch / half-life), Eq. (eq-ema-rate).

        images_seen: 1 or more; before the first image there is nothing to average.
        """
        return 2 ** (-self.batch / self.half_life_at(images_seen))

    def draw_times(self, schedule: Schedule, n: int) -> Tensor:
        """n steps t of 1..T, exactly those that sampling visits, from torch's generator, (n,) int64 on the CPU.

        "middle": ⌈T u⌉ for u = 1 / (1 + e^(-z)) with standard normal z, whose density is Eq. (eq-times-density).
        """
        if self.times == "uniform":
            return torch.randint(1, schedule.T + 1, (n,))
        return (torch.sigmoid(torch.randn(n)) * schedule.T).ceil().long().clamp(1, schedule.T)

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict, source: Path | str = "config") -> TrainConfig:
        """The inverse of ``to_dict``. Raises ValueError, naming source, for fields that are unknown or do not fit."""
        try:
            values = dict(values)
            model = UNetConfig(**_tuples(values.pop("model")))
            return cls(model=model, **_tuples(values))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{source}: its config does not fit this version: {error}") from None

    def differences(self, other: TrainConfig) -> str:
        """The fields in which other differs, as "name: mine, not theirs"; empty when the runs are the same."""
        mine, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        return "; ".join(f"{k}: {mine[k]}, not {theirs[k]}" for k in mine if mine[k] != theirs[k])


_CHOICES = {
    "schedule": ("linear", "cosine"),
    "objective": ("eps", "x0", "v"),
    "times": ("uniform", "middle"),
    "precision": ("auto", "fp32", "bf16"),
}


def _tuples(values: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
