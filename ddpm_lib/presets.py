"""Training runs worth starting from, as functions that return a ``TrainConfig``."""

from __future__ import annotations

import torch

from ddpm_lib.config import TrainConfig
from ddpm_lib.unet import UNetConfig


def mnist5k() -> TrainConfig:
    """Readable digits in under five minutes on two CPU cores: class-conditional, v objective."""
    return TrainConfig()


def mnist5k_gpu() -> TrainConfig:
    """The same digits with 24 times the weights (17.2 million) and 14 times the images; for a GPU."""
    model = UNetConfig(width=128, multipliers=(1, 2), blocks=2, attention=(7,), dropout=0.1)
    return TrainConfig(
        model=model,
        images=2_000_000,
        batch=256,
        lr=1e-3,
        warmup=50_000,
        ema_half_life=50_000,
        checkpoint_every=200_000,
    )


PRESETS = {"mnist5k": mnist5k, "mnist5k-gpu": mnist5k_gpu}


def profile(device: torch.device | str) -> TrainConfig:
    """What the chapters train on this device: the full configuration on CUDA, the embedded default elsewhere."""
    return mnist5k_gpu() if torch.device(device).type == "cuda" else mnist5k()
