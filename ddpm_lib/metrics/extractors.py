"""Extractors: what turns 8-bit images into the feature vectors that distances compare."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm


@dataclass(frozen=True)
class Extractor:
    """Images to feature vectors: (B, C, H, W) uint8 -> (B, dims) float32. Only bytes are taken, as files hold them.

    name: what a report calls it. function: does the work, on ``device``.
    """

    name: str
    dims: int
    function: Callable[[Tensor], Tensor]
    device: torch.device

    def __call__(self, pixels: Tensor) -> Tensor:
        check_pixels("pixels", pixels)
        return self.function(pixels.to(self.device))


@torch.no_grad()
def features(
    extractor: Callable[[Tensor], Tensor], pixels: Tensor, batch: int = 256, progress: bool = False
) -> Tensor:
    """The feature vectors of all images, (N, D) float64 on the CPU; pixels: (N, C, H, W) uint8, batch at a time."""
    check_pixels("pixels", pixels)
    parts = tqdm(pixels.split(batch), desc="features", unit="batch", disable=not progress, leave=False)
    return torch.cat([extractor(part).cpu().double() for part in parts])


def inception_features(weights: Path | str, device: torch.device | str = "cpu") -> Extractor:
    """The 2,048 features of Inception v3 in which FID is usually told, from a weights file that the user has.

    weights: the file ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity's releases, or the same tensors as
    safetensors. The network, with its resizing to 299×299 as in TensorFlow 1 (bilinear, no antialiasing), is
    torch-fidelity's, which must be installed. Grey images are given to it as three equal channels.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise ValueError(
            "extractor: inception needs torch-fidelity; install it by: pip install 'ddpm-lib[inception]'"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        # torch-fidelity unpickles whatever the file holds; so it only gets to see a copy of plain tensors
        plain = Path(folder) / "weights.pth"
        torch.save(_plain_tensors(Path(weights)), plain)
        try:
            net = FeatureExtractorInceptionV3("inception", ["2048"], str(plain)).to(device)
        except RuntimeError as error:
            raise ValueError(
                f"extractor: {weights} holds no Inception v3: {str(error).splitlines()[0]}"
            ) from None

    def function(pixels: Tensor) -> Tensor:
        if pixels.shape[1] not in (1, 3):
            raise ValueError(f"pixels: expected one or three channels, got {pixels.shape[1]}")
        return net(pixels.expand(-1, 3, -1, -1))[0].flatten(1)

    return Extractor("inception", 2048, function, torch.device(device))


def _plain_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises any of a dozen types
        raise ValueError(
            f"extractor: cannot read {path}: {str(error).splitlines()[0] or type(error).__name__}"
        ) from None


def check_pixels(name: str, pixels: Tensor) -> None:
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.ndim != 4 or len(pixels) == 0:
        got = f"{tuple(pixels.shape)} {pixels.dtype}" if isinstance(pixels, Tensor) else type(pixels).__name__
        raise ValueError(
            f"{name}: expected images (N, C, H, W) uint8, such as data.to_bytes gives, got {got}"
        )
