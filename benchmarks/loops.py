"""One step of each package's own training loop, on the same images: all that a step takes, not the network alone.

Ours is ``Trainer.train_step``. Diffusers leaves the loop to its training script, ``train_unconditional.py``; this is
what that does in a step with ``--use_ema`` and, for bf16, ``--mixed_precision bf16``: its scheduler's ``add_noise``,
its own average of the weights, torch's AdamW as it comes, clipping, a learning rate on a schedule, the loss as a number
for the log. The images are in memory for both, which the script's are not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pair import Peer, batch
from ddpm_lib.config import TrainConfig
from ddpm_lib.data import Images
from ddpm_lib.training import Trainer
from ddpm_lib.unet import UNet, UNetConfig


def steps(
    peer: Peer, ours: UNet, config: UNetConfig, n: int, precision: str, device: str
) -> dict[str, Callable[[], object]]:
    """A step of the script on diffusers' network, and one of our loop on ours, n images each."""
    return {
        "peer": script_step(peer, config, n, precision, device),
        "ours": our_step(ours, config, n, precision, device),
    }


def our_step(net: UNet, config: UNetConfig, n: int, precision: str, device: str) -> Callable[[], Tensor]:
    """``Trainer.train_step`` with noise as the target and even times, as the script has them."""
    pixels = torch.zeros((4 * n, config.in_channels, config.image_size, config.image_size), dtype=torch.uint8)
    classes = tuple(map(str, range(config.num_classes or 1)))
    images = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), classes)
    setting = TrainConfig(
        model=config,
        objective="eps",
        times="uniform",
        label_dropout=0.0,
        batch=n,
        precision=precision,
        tf32=False,
        lr=1e-4,
        warmup=0,
        adam_betas=(0.95, 0.999),
        weight_decay=1e-6,
    )
    trainer = Trainer(setting, device, images)
    trainer.net.load_state_dict(net.state_dict())
    trainer.net.train()

    def step() -> Tensor:
        loss = trainer.train_step()
        loss.item()
        return loss

    return step


def script_step(peer: Peer, config: UNetConfig, n: int, precision: str, device: str) -> Callable[[], Tensor]:
    """What the script does in a step."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    clean, _, y = batch(config, n, device)
    noising = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=0, num_training_steps=10_000)
    average = EMAModel(peer.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def step() -> Tensor:
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (n,), device=clean.device)
        noisy = noising.add_noise(clean, noise, t)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            answer = peer(noisy, t, y)
        loss = F.mse_loss(answer.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(peer.parameters())
        loss.item()
        return loss.detach()

    return step
