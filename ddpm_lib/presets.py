"""Training runs worth starting from, as functions that return a ``TrainConfig``."""

from __future__ import annotations

from ddpm_lib.config import TrainConfig


def mnist5k() -> TrainConfig:
    """Readable digits in under five minutes on two CPU cores: class-conditional, v objective."""
    return TrainConfig()


PRESETS = {"mnist5k": mnist5k}
