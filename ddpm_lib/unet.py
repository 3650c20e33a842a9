"""The network: a U-Net that sees a noisy image x_t and its step t and answers with an image of x_t's shape.

One class serves two families of configuration: ``paper()``, the 35.7 M parameters of DDPM's CIFAR-10 model,
and ``small()``, which a CPU trains on 28×28 digits in minutes. The way of one batch, here for ``small()``:

    x (B, 1, 28, 28) → fold 2×2 pixels → conv → 14×14 blocks → half → 7×7 blocks
                                                   ↓ kept              ↓
      (B, 1, 28, 28) ← unfold ← conv ← 14×14 blocks with what was kept ← double

Each block is told t, and the class y if there is one, through a vector: it scales and shifts the block's
channels or, in the paper's network, is added to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_lib import _diffusers


@dataclass(frozen=True)
class UNetConfig:
    """What decides the network's shape. The defaults are ``small()``; JSON can hold all of it."""

    image_size: int = 28
    """Height and width of the images."""
    in_channels: int = 1
    """Channels of the images, and of the answer."""
    num_classes: int | None = 10
    """Number of classes, or None for a network that takes no labels."""
    patch: int = 2
    """Side of the pixel squares that are folded into channels at the door; 1 leaves the pixels alone."""
    width: int = 32
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 2)
    """Channels of each level, in units of width; each level has half the side of the one before."""
    blocks: int = 1
    """Residual blocks of a level on the way down; on the way up there is one more."""
    attention: tuple[int, ...] = ()
    """Sides of the feature maps at which self-attention follows each block; the middle always has it."""
    scale_shift: bool = True
    """Step and class scale and shift each block's normalised channels; False adds them before, as DDPM does."""
    dropout: float = 0.0
    """Share of activations dropped in each block while training."""
    groups: int = 8
    """Groups of the group normalisation."""
    eps: float = 1e-6
    """What the group normalisation adds to the variance; 1e-6 as in DDPM, not torch's 1e-5."""

    def __post_init__(self):
        for name in ("multipliers", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("image_size", "in_channels", "patch", "width", "blocks", "groups"):
            _check_whole(name, getattr(self, name))
        if self.num_classes is not None:
            _check_whole("num_classes", self.num_classes)
        if not self.multipliers:
            raise ValueError("multipliers: expected at least one level, got ()")
        for multiplier in self.multipliers:
            _check_whole("multipliers", multiplier)
        if self.width % 2:
            raise ValueError(f"width: expected an even number, half sines, half cosines, got {self.width}")
        if self.width % self.groups:
            raise ValueError(f"groups: expected a divisor of width = {self.width}, got {self.groups}")
        if self.image_size % (unit := self.patch * 2 ** (len(self.multipliers) - 1)):
            raise ValueError(
                f"image_size: expected a multiple of {unit} for patch = {self.patch} and "
                f"{len(self.multipliers)} levels, got {self.image_size}"
            )
        if unknown := set(self.attention) - set(self.sides):
            raise ValueError(f"attention: expected sides out of {self.sides}, got {min(unknown)}")
        if not isinstance(self.scale_shift, bool):
            raise ValueError(f"scale_shift: expected True or False, got {self.scale_shift!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1), got {self.dropout}")
        if not self.eps > 0:
            raise ValueError(f"eps: expected a number above 0, got {self.eps}")

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the feature maps of each level."""
        return tuple(self.image_size // self.patch // 2**level for level in range(len(self.multipliers)))


def small(num_classes: int | None = 10) -> UNetConfig:
    """A network for 28×28 grey images that two CPU cores train in minutes."""
    return UNetConfig(num_classes=num_classes)


def paper(num_classes: int | None = None) -> UNetConfig:
    """DDPM's network for 32×32 colour images (CIFAR-10), appendix B: 35.7 M parameters without classes."""
    return UNetConfig(
        image_size=32,
        in_channels=3,
        num_classes=num_classes,
        patch=1,
        width=128,
        multipliers=(1, 2, 2, 2),
        blocks=2,
        attention=(16,),
        scale_shift=False,
        dropout=0.1,
        groups=32,
    )


class Encoder(nn.Module):
    """The way down and the middle, which the U-Net and a classifier of noisy images have in common.

    classes: whether the blocks are told the class too, by an embedding.
    """

    def __init__(self, config: UNetConfig, classes: bool):
        super().__init__()
        self.config = config
        embedded = 4 * config.width
        self.time = nn.Sequential(nn.Linear(config.width, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        self.label = nn.Embedding(config.num_classes + 1, embedded) if classes else None

        self.conv_in = nn.Conv2d(config.in_channels * config.patch**2, config.width, 3, padding=1)
        widths = [config.width * m for m in config.multipliers]
        self.kept, now = [config.width], config.width  # channels of each kept feature map, and now

        self.down = nn.ModuleList()
        for side, width in zip(config.sides, widths, strict=True):
            for _ in range(config.blocks):
                self.down.append(Block(now, width, embedded, side in config.attention, config))
                now = width
                self.kept.append(now)
            if side != config.sides[-1]:
                self.down.append(Halve(now))
                self.kept.append(now)

        self.middle = nn.ModuleList(Block(now, now, embedded, attend, config) for attend in (True, False))

    def encode(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, list[Tensor], Tensor]:
        """What comes out of the middle, the feature maps kept on the way down, and what the blocks are told."""
        self._check(x, t, y)
        told = self.time(wave(t.float(), self.config.width).to(self.time[0].weight.dtype))  # (B, 4 width)
        if self.label is not None:
            if y is None:
                y = torch.full_like(t, self.config.num_classes, dtype=torch.int64)
            told = told + self.label(y)
        told = F.silu(told)

        h = self.conv_in(F.pixel_unshuffle(x, self.config.patch))  # (B, width, side, side)
        kept = [h]
        for layer in self.down:
            h = layer(h, told)
            kept.append(h)
        for layer in self.middle:
            h = layer(h, told)
        return h, kept, told

    def _check(self, x: Tensor, t: Tensor, y: Tensor | None) -> None:
        config = self.config
        shape = (config.in_channels, config.image_size, config.image_size)
        if x.ndim != 4 or tuple(x.shape[1:]) != shape or len(x) == 0:
            wanted = ", ".join(map(str, shape))
            raise ValueError(f"x: expected at least one image, shape (B, {wanted}), got {tuple(x.shape)}")
        if x.dtype != self.conv_in.weight.dtype and not (
            x.is_floating_point() and torch.is_autocast_enabled(x.device.type)
        ):
            raise ValueError(f"x: expected {self.conv_in.weight.dtype}, the network's dtype, got {x.dtype}")
        if t.dtype != torch.int64 and not t.is_floating_point():
            raise ValueError(f"t: expected int64 or floating point, got {t.dtype}")
        if y is not None and self.label is None:
            raise ValueError("y: expected None, since the network takes no labels (num_classes = None)")
        if y is not None and y.dtype != torch.int64:
            raise ValueError(f"y: expected int64, got {y.dtype}")
        for name, value in (("t", t), ("y", y)):
            if value is not None and (value.shape != x.shape[:1] or value.device != x.device):
                raise ValueError(
                    f"{name}: expected one for each of the {len(x)} images on {x.device}, "
                    f"got shape {tuple(value.shape)} on {value.device}"
                )
        if y is not None and y.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = y.min().item(), y.max().item()
            if low < 0 or high > config.num_classes:
                raise ValueError(f"y: expected labels in 0..{config.num_classes}, got {low}..{high}")


class UNet(Encoder):
    """net(x, t, y) -> an image-shaped answer; whether it means ε, x_0 or v is for the denoiser to say.

    Weights start as in DDPM: uniform with variance 1/fan_avg, biases at zero, and the last layer of each
    block and of the network at zero. So at first a block hands on what it got (through its 1×1 convolution where the
    number of channels changes), and the answer is 0.
    """

    def __init__(self, config: UNetConfig):
        super().__init__(config, classes=config.num_classes is not None)
        embedded, widths = 4 * config.width, [config.width * m for m in config.multipliers]
        kept, now = list(self.kept), self.kept[-1]

        self.up = nn.ModuleList()
        for side, width in zip(reversed(config.sides), reversed(widths), strict=True):
            for _ in range(config.blocks + 1):
                self.up.append(Block(now + kept.pop(), width, embedded, side in config.attention, config))
                now = width
            if side != config.sides[0]:
                self.up.append(Double(now))

        self.norm = nn.GroupNorm(config.groups, now, eps=config.eps)
        self.out = nn.Conv2d(now, config.in_channels * config.patch**2, 3, padding=1)
        self.apply(initialise)
        zero(self.out)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The answer for each image, in x's shape.

        x: noisy images, (B, C, H, W), floating point. t: their steps, (B,) int64, or floating point for steps
        between the whole ones. y: class labels, (B,) int64 in 0..num_classes; num_classes is the null label,
        "any class", and None means it for all. All on one device. Raises ValueError for other shapes, dtypes
        or devices.
        """
        h, kept, told = self.encode(x, t, y)
        for layer in self.up:
            if isinstance(layer, Block):
                h = torch.cat([h, kept.pop()], dim=1)
            h = layer(h, told)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), self.config.patch)


def load_diffusers(folder: Path | str) -> UNet:
    """The network that a diffusers ``UNet2DModel`` is, from its own folder or that of its pipeline; in evaluation mode.

    folder: holds ``config.json`` and ``diffusion_pytorch_model.safetensors``, itself or in ``unet/``. Same inputs give
    the same output to 1e-5. But their steps count from 0: what is step t here is step t - 1 to a network that was
    trained there, so ask for ``net(x, t - 1)``. Its classes keep their numbers; the null label adds nothing.
    Raises ValueError, naming the file or the field, for what is missing, damaged or cannot be this network.
    """
    fields, weights = _diffusers.read(folder)
    try:
        with torch.device("meta"):
            net = UNet(UNetConfig(**fields))
        net.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{folder}: {error}") from None
    return net.eval()


def wave(t: Tensor, width: int) -> Tensor:
    """Steps as points on n = width/2 circles of rising period, (B,) -> (B, width): sines, then cosines.

    The angles are ω_k t for k = 1..n with ω_k = 10000^(-(k-1)/(n-1)), Eq. (eq-embedding-rate), as in DDPM's code; a
    single one turns at rate 1. So the inner product of two steps is that of Eq. (eq-embedding-inner). Float64 for t in
    float64, else float32.
    """
    n, dtype = width // 2, torch.promote_types(t.dtype, torch.float32)
    places = torch.arange(n, dtype=dtype, device=t.device)  # k - 1
    rates = torch.exp(places * (-math.log(10_000) / max(n - 1, 1)))
    angles = t.to(dtype)[:, None] * rates  # (B, n)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    """A residual block, followed by self-attention or not: (B, c_in, H, W), (B, e) -> (B, c_out, H, W)."""

    def __init__(self, c_in: int, c_out: int, embedded: int, attend: bool, config: UNetConfig):
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, c_in, eps=config.eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.scale_shift = config.scale_shift
        self.tell = nn.Linear(embedded, 2 * c_out if self.scale_shift else c_out)
        self.norm2 = nn.GroupNorm(config.groups, c_out, eps=config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.attention = Attention(c_out, config) if attend else nn.Identity()

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        r = self.conv1(F.silu(self.norm1(h)))
        told = self.tell(told)[:, :, None, None]  # (B, c_out or 2 c_out, 1, 1)
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            r = self.norm2(r) * (1 + scale) + shift
        else:
            r = self.norm2(r + told)
        r = self.conv2(self.dropout(F.silu(r)))
        return self.attention(self.skip(h) + r)


class Attention(nn.Module):
    """Each pixel looks at all others, one head, and adds what it finds: (B, c, H, W) -> (B, c, H, W)."""

    def __init__(self, channels: int, config: UNetConfig):
        super().__init__()
        self.norm = nn.GroupNorm(config.groups, channels, eps=config.eps)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(h)).flatten(2).transpose(1, 2)  # (B, H·W, 3c)
        if qkv.is_cuda:
            qkv = qkv.contiguous()  # as none of CUDA's fused kernels takes it else
        q, k, v = qkv[:, None].chunk(3, dim=3)  # each (B, 1 head, H·W, c)
        found = F.scaled_dot_product_attention(q, k, v)[:, 0]  # (B, H·W, c)
        return h + self.out(found.transpose(1, 2).unflatten(2, h.shape[2:]))


class Halve(nn.Module):
    """Half the side by a convolution of stride 2. It pads below and to the right only, as DDPM's does."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        return self.conv(F.pad(h, (0, 1, 0, 1)))


class Double(nn.Module):
    """Twice the side: each pixel four times, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        return self.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))


def initialise(module: nn.Module) -> None:
    """DDPM's start of one layer; for ``Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    if isinstance(module, Attention):  # q, k and v are three layers in one weight
        for weight in module.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(weight)
        zero(module.out)
    if isinstance(module, Block):
        zero(module.conv2)


def zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Let a layer begin with an answer that does not depend on its input."""
    nn.init.zeros_(layer.weight)


def _check_whole(name: str, value) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
