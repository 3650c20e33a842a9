"""What several tests build."""

from ddpm_lib.config import TrainConfig
from ddpm_lib.unet import UNetConfig

TINY = UNetConfig(width=16, multipliers=(1,))


def tiny_config(**changes) -> TrainConfig:
    """A run that takes seconds: a real network, only narrow, on the real digits."""
    values = {"model": TINY, "images": 160, "batch": 20, "lr": 1e-3, "warmup": 40, "checkpoint_every": 80}
    return TrainConfig(**values | changes)
