"""The network: a U-Net that is told the step and, if it wants, the class.

One class, two families of configuration: ``UNetConfig.small()`` for 28×28 digits on a CPU, and
``UNetConfig.paper()``, the 35.7 M-parameter network of DDPM (appendix B) for 32×32 colour images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6  # GroupNorm's ε, as in DDPM; 1e-5 would give other numbers from the same weights


@dataclass(frozen=True)
class UNetConfig:
    """What decides the network's shape. Raises ValueError for sizes that do not divide."""

    image_size: int = 28
    """Height and width of the images."""
    in_channels: int = 1
    """1 for grey, 3 for colour."""
    num_classes: int | None = 10
    """Number of class labels, or None for a network without labels."""
    patch: int = 2
    """Pixels folded into channels: 2 turns 28×28×1 into 14×14×4, four times fewer places to compute at."""
    channels: int = 64
    """Width at the finest level."""
    multipliers: tuple[int, ...] = (1, 2)
    """Width of each level, in units of ``channels``; each level halves the resolution."""
    blocks: int = 1
    """Residual blocks a level on the way down; one more on the way up."""
    attention: tuple[int, ...] = ()
    """Resolutions, after folding, at which pixels attend to each other."""
    middle_attention: bool = False
    """Attention at the coarsest level's middle."""
    groups: int = 8
    """Groups of GroupNorm."""
    dropout: float = 0.0
    """Dropout in each residual block, after the second norm and activation."""

    def __post_init__(self):
        coarsest = self.patch * 2 ** (len(self.multipliers) - 1)
        if self.patch < 1 or not self.multipliers or self.blocks < 1 or self.in_channels < 1:
            raise ValueError(f"UNetConfig: patch, multipliers, blocks, in_channels: expected at least 1, got {self}")
        if self.image_size % coarsest:
            raise ValueError(f"image_size: expected a multiple of {coarsest} for these levels, got {self.image_size}")
        if self.channels % self.groups or self.channels % 2:
            raise ValueError(f"channels: expected an even multiple of groups = {self.groups}, got {self.channels}")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1 or None, got {self.num_classes}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1), got {self.dropout}")

    @classmethod
    def small(cls) -> UNetConfig:
        """For 28×28 digits on a CPU."""
        return cls()

    @classmethod
    def paper(cls) -> UNetConfig:
        """DDPM's network for CIFAR-10: 35.7 M parameters, attention at 16×16."""
        return cls(32, 3, None, 1, 128, (1, 2, 2, 2), 2, (16,), True, 32, 0.1)


class UNet(nn.Module):
    """The network, called as net(x, t, y)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = c = config
        widths = [c.channels * m for m in c.multipliers]
        size, folded, emb = c.image_size // c.patch, c.in_channels * c.patch**2, 4 * c.channels
        self.embed_time = nn.Sequential(nn.Linear(c.channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.embed_label = None if c.num_classes is None else nn.Embedding(c.num_classes + 1, emb)

        def stage(width_in: int, width: int, size: int) -> Stage:
            return Stage(width_in, width, emb, c.groups, c.dropout, attend=size in c.attention)

        self.enter = nn.Conv2d(folded, widths[0], 3, padding=1)
        width, kept = widths[0], [widths[0]]
        self.down = nn.ModuleList()
        for level, wanted in enumerate(widths):
            for _ in range(c.blocks):
                self.down.append(stage(width, wanted, size))
                kept.append(width := wanted)
            if level < len(widths) - 1:
                self.down.append(Halve(width))
                kept.append(width)
                size //= 2
        self.middle = nn.ModuleList(
            [
                Stage(width, width, emb, c.groups, c.dropout, attend=c.middle_attention),
                Stage(width, width, emb, c.groups, c.dropout, attend=False),
            ]
        )
        self.up = nn.ModuleList()
        for level, wanted in reversed(list(enumerate(widths))):
            for _ in range(c.blocks + 1):
                self.up.append(stage(width + kept.pop(), wanted, size))
                width = wanted
            if level > 0:
                self.up.append(Double(width))
                size *= 2
        self.out_norm = nn.GroupNorm(c.groups, width, NORM_EPS)
        self.out = start_at_zero(nn.Conv2d(width, folded, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The network's answer, in x's shape.

        x: (B, in_channels, image_size, image_size) floating point. t: (B,) steps, integers or floats.
        y: (B,) int64 classes in 0..num_classes; num_classes is the null label, which None stands for.
        Raises ValueError for another shape, or for labels given to a network without classes.
        """
        self._check(x, t, y)
        e = self.embed_time(sinusoids(t, self.config.channels))  # (B, emb)
        if self.embed_label is not None:
            y = torch.full(t.shape, self.config.num_classes, device=x.device) if y is None else y
            e = e + self.embed_label(y)
        e = F.silu(e)
        h = self.enter(F.pixel_unshuffle(x, self.config.patch))  # (B, channels, size, size)
        kept = [h]
        for part in self.down:
            h = part(h, e)
            kept.append(h)
        for part in self.middle:
            h = part(h, e)
        for part in self.up:
            h = part(h, e) if isinstance(part, Double) else part(torch.cat([h, kept.pop()], 1), e)
        return F.pixel_shuffle(self.out(F.silu(self.out_norm(h))), self.config.patch)

    def _check(self, x: Tensor, t: Tensor, y: Tensor | None) -> None:
        c = self.config
        if x.ndim != 4 or x.shape[1:] != (c.in_channels, c.image_size, c.image_size) or not x.is_floating_point():
            wanted = f"(B, {c.in_channels}, {c.image_size}, {c.image_size}) floating point"
            raise ValueError(f"x: expected {wanted}, got {tuple(x.shape)} {x.dtype}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t: expected shape ({len(x)},), got {tuple(t.shape)}")
        if y is None:
            return
        if c.num_classes is None:
            raise ValueError("y: expected None, as this network has no classes")
        if y.shape != t.shape or y.dtype != torch.int64:
            raise ValueError(f"y: expected ({len(x)},) int64 labels, got {tuple(y.shape)} {y.dtype}")


class Stage(nn.Module):
    """A residual block, told the embedding, and attention after it where it is wanted."""

    def __init__(self, width_in: int, width: int, emb: int, groups: int, dropout: float, attend: bool):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, NORM_EPS)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.embed = nn.Linear(emb, width)
        self.norm2 = nn.GroupNorm(groups, width, NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = start_at_zero(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)
        self.attention = Attention(width, groups) if attend else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:  # (B, width_in, H, W), (B, emb) -> (B, width, H, W)
        h = self.conv1(F.silu(self.norm1(x))) + self.embed(e)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.attention(self.skip(x) + h)


class Attention(nn.Module):
    """Self-attention over the pixels, one head, added to its input."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, NORM_EPS)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = start_at_zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, 1, C, H * W).transpose(3, 4).unbind(1)  # each (B, 1, HW, C)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.squeeze(1).transpose(1, 2).reshape(B, C, H, W))


class Halve(nn.Module):
    """Half the resolution by a strided convolution, padded below and on the right only, as in DDPM."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Twice the resolution: each pixel repeated, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Steps (B,) as width/2 sines and then as many cosines, (B, width) float32, of frequencies 1 down to 1/10000."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=t.device, dtype=torch.float32))
    angles = t.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def start_at_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its weights 0: what it feeds starts as if it were not there."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
