"""What several tests build."""

import json
from dataclasses import asdict

import torch
from torch import nn

from ddpm_lib.config import TrainConfig
from ddpm_lib.unet import UNet, UNetConfig

TINY = UNetConfig(width=16, multipliers=(1,))


def tiny_config(**changes) -> TrainConfig:
    """A run that takes seconds: a real network, only narrow, on the real digits."""
    values = {"model": TINY, "images": 160, "batch": 20, "lr": 1e-3, "warmup": 40, "checkpoint_every": 80}
    return TrainConfig(**values | changes)


def awake(config: UNetConfig, seed: int = 0) -> UNet:
    """A network none of whose layers is zero, so that everything it depends on shows."""
    torch.manual_seed(seed)
    net = UNet(config).eval()
    for p in net.parameters():
        nn.init.normal_(p, std=0.1) if p.ndim < 2 else nn.init.xavier_normal_(p)
    return net


def batch(config: UNetConfig, n: int = 3, seed: int = 1):
    """n random images x, steps t and classes y = 0..n-1 for a network of this shape."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, config.in_channels, config.image_size, config.image_size, generator=generator)
    return x, torch.randint(1, 1001, (n,), generator=generator), torch.arange(n)


def record_of(result) -> dict:
    """What a check leaves in a notebook, from what it returns."""
    return json.loads(json.dumps(asdict(result.record)))
