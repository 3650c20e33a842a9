"""The same network twice, with the same weights: diffusers' ``UNet2DModel`` and this library's ``UNet``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_lib import unet
from ddpm_lib.unet import UNet, UNetConfig


class Peer(nn.Module):
    """Diffusers' network behind this library's door: folds pixels where it has to, called as net(x, t, y)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        from diffusers import UNet2DModel

        pixels = config.in_channels * config.patch**2
        attends = ["Attn" * (side in config.attention) for side in config.sides]
        self.patch = config.patch
        self.net = UNet2DModel(
            sample_size=config.sides[0],
            in_channels=pixels,
            out_channels=pixels,
            down_block_types=[f"{attend}DownBlock2D" for attend in attends],
            up_block_types=[f"{attend}UpBlock2D" for attend in reversed(attends)],
            block_out_channels=[config.width * multiplier for multiplier in config.multipliers],
            layers_per_block=config.blocks,
            attention_head_dim=None,
            norm_num_groups=config.groups,
            attn_norm_num_groups=config.groups,
            norm_eps=config.eps,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            dropout=config.dropout,
            resnet_time_scale_shift="scale_shift" if config.scale_shift else "default",
            num_class_embeds=config.num_classes,
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if self.patch == 1:
            return self.net(x, t, y, return_dict=False)[0]
        answer = self.net(F.pixel_unshuffle(x, self.patch), t, y, return_dict=False)[0]
        return F.pixel_shuffle(answer, self.patch)


def pair(config: UNetConfig) -> tuple[Peer, UNet]:
    """Both, in single precision on the CPU and in training mode, the second with the weights of the first."""
    peer, ours = Peer(config), UNet(config)
    with tempfile.TemporaryDirectory() as folder:
        peer.net.save_pretrained(folder)
        ours.load_state_dict(unet.load_diffusers(folder).state_dict())
    return peer.train(), ours.train()


def batch(config: UNetConfig, n: int, device: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """n noisy images, their steps and, where the network takes them, their classes."""
    generator = torch.Generator().manual_seed(0)
    shape = (n, config.in_channels, config.image_size, config.image_size)
    x = torch.randn(shape, generator=generator).to(device)
    t = torch.randint(1, 1001, (n,), generator=generator).to(device)
    if config.num_classes is None:
        return x, t, None
    return x, t, torch.randint(config.num_classes, (n,), generator=generator).to(device)


def training_step(
    net: nn.Module, config: UNetConfig, n: int, precision: str, device: str
) -> Callable[[], Tensor]:
    """One update of the network on n images: forward, squared error, backward, fused AdamW. The same for any net."""
    x, t, y = batch(config, n, device)
    wanted = x.flip(0)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=True)

    def step() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            answer = net(x, t, y)
        loss = F.mse_loss(answer.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
