"""Distances between two sets of images: Fréchet and kernel distance of their features, nearest neighbours in pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lib.metrics.extractors import check_pixels
from ddpm_lib.metrics.intervals import jackknife_interval


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a - μ_b‖² + tr(Σ_a + Σ_b - 2 (Σ_a^½ Σ_b Σ_a^½)^½), the Fréchet distance of two normal laws, in float64.

    Heusel et al. 2017, Eq. 6. The root's trace is the sum of the roots of eigenvalues; those that rounding made
    negative count as zero, so nothing is ever imaginary. a: (N, D), b: (M, D) features. Between two samples of one law
    the distance is not zero but falls like 1/N + 1/M, so it means something only beside N, M and that floor. Raises
    ValueError unless N and M exceed D: with fewer images a covariance is singular and the distance mostly that bias.
    """
    _check_features(a, b, a.shape[-1] + 1)
    return frechet_between(*moments(a), *moments(b))


def frechet_interval(a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """``frechet_distance`` and its interval over the choice of a, by ``jackknife_interval``; b is taken as it is."""
    _check_features(a, b, a.shape[-1] + 1)
    target = moments(b)
    value = frechet_between(*moments(a), *target)
    return jackknife_interval(len(a), lambda rows: frechet_between(*moments(a[rows]), *target), value)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D), float64, of features (N, D)."""
    return x.double().mean(0), torch.cov(x.double().T).view(x.shape[1], x.shape[1])


def frechet_between(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The Fréchet distance of N(mean_a, cov_a) and N(mean_b, cov_b); means (D,), covariances (D, D), float64."""
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    inner = root @ cov_b @ root
    overlap = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    return ((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap).item()


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy with k(x, y) = (x·y / D + 1)³, Bińkowski et al. 2018, section 4.

    a: (N, D), b: (M, D) features, at least two each. Unlike the Fréchet distance it has no bias in N: between two
    samples of one law, each drawn independently, it is zero on average and so at times negative. A sample with
    its classes in equal numbers is not so drawn: there it is lower, by about 1/N of how far the classes are apart.
    """
    _check_features(a, b, 2)
    return _within(a.double()) + _within(b.double()) - 2 * _affinity(a.double(), b.double()).mean().item()


def kernel_interval(a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """``kernel_distance`` and its interval over the choice of a, by ``jackknife_interval``; b is taken as it is."""
    value = kernel_distance(a, b)
    a, to_b = a.double(), _affinity(a.double(), b.double())

    def statistic(rows: Tensor) -> float:  # but for the part that is b's alone
        return _within(a[rows]) - 2 * to_b[rows].mean().item()

    return jackknife_interval(len(a), statistic, value)


def kernel_subsets(a: Tensor, b: Tensor, size: int = 100, subsets: int = 100, seed: int = 0) -> Tensor:
    """``kernel_distance`` of pairs of subsets of this size, (subsets,) float64: the form in which KID is usually told.

    Usual are their mean and their standard deviation, which is that of *one* subset. Each subset is drawn without
    replacement, from the seed.
    """
    _check_features(a, b, max(size, 2))
    generator = torch.Generator().manual_seed(seed)

    def draw(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=generator)[:size]]

    return torch.tensor([kernel_distance(draw(a), draw(b)) for _ in range(subsets)], dtype=torch.float64)


def _affinity(a: Tensor, b: Tensor) -> Tensor:
    """Each a's mean kernel with all of b, (N,)."""
    linear = (part @ b.T / a.shape[1] + 1 for part in a.split(512))
    return torch.cat([(k * k * k).mean(1) for k in linear])  # k³ by products: pow is many times slower


def _within(a: Tensor) -> float:
    """The mean kernel over all pairs of different rows."""
    own = (a.square().sum(1) / a.shape[1] + 1).pow(3)
    return ((_affinity(a, a) * len(a) - own) / (len(a) - 1)).mean().item()


@torch.no_grad()
def nearest(
    samples: Tensor, images: Tensor, batch: int = 64, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """The image nearest to each sample: Euclidean distances in pixels of 0..1, (N,) float32, and its indices, (N,).

    samples: (N, C, H, W), images: (M, C, H, W), both uint8. All pairs are compared, on the samples' device, by
    differences and not by |a|² + |b|² - 2ab, which would lose the small distances that copies have. The first of
    several equally near images is taken.
    """
    check_pixels("samples", samples)
    check_pixels("images", images)
    if samples.shape[1:] != images.shape[1:] or len(images) == 0:
        raise ValueError(
            f"images: expected some of the samples' {tuple(samples.shape[1:])}, got {tuple(images.shape)}"
        )
    least = torch.full((len(samples),), math.inf, device=samples.device)
    which = torch.zeros(len(samples), dtype=torch.int64, device=samples.device)
    starts, parts = range(0, len(images), 4096), range(0, len(samples), batch)
    with tqdm(
        total=len(starts) * len(parts), desc="nearest", unit="batch", disable=not progress, leave=False
    ) as bar:
        for start in starts:  # outside, as these may come from a disk or go to another device
            rows = images[start : start + 4096].to(samples.device).flatten(1).float() / 255
            for first in parts:
                some = slice(first, first + batch)
                flat = samples[some].flatten(1).float() / 255
                distance, index = torch.cdist(flat, rows, compute_mode="donot_use_mm_for_euclid_dist").min(1)
                which[some] = torch.where(distance < least[some], index + start, which[some])
                least[some] = least[some].minimum(distance)
                bar.update()
    return least, which


def _check_features(a: Tensor, b: Tensor, least: int) -> None:
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 2 or not x.is_floating_point() or x.shape[1] != a.shape[-1] or x.shape[1] == 0:
            raise ValueError(f"{name}: expected (N, {a.shape[-1]}) features, got {tuple(x.shape)} {x.dtype}")
        if len(x) < least:
            raise ValueError(
                f"{name}: expected at least {least} images for {x.shape[1]} features, got {len(x)}"
            )
        if not x.isfinite().all():
            raise ValueError(f"{name}: expected finite features, got some that are not")
