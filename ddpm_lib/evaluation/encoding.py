"""Bits a dimension of real images under a model: the terms of its bound, at a few steps of the chain or at all."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lib import data
from ddpm_lib.bound import Bound, bits_per_dim, variational_bound
from ddpm_lib.data import Images
from ddpm_lib.denoiser import Clipped, NetworkDenoiser
from ddpm_lib.metrics import Row, mean_interval


def draw_steps(T: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Which steps t of the bound's 2..T to look at, where all would take too long: about count of them, at random.

    Returns rising steps, their weights, with which a weighted sum over these steps is on average the sum over all, and
    the stratum each was drawn from; (K,) int64, float64, int64. Strata are runs of steps, short where t is small and
    the terms change fast. Two steps are drawn from each; with count >= T - 1 it is all of them.
    """
    if count < 1:
        raise ValueError(f"bound_steps: expected at least 1, got {count}")
    # The cube makes the error of 100 steps on a digits' model that of 500 images; with the square it is twice that.
    part = torch.linspace(0, 1, max(count // 2, 1) + 1, dtype=torch.float64) ** 3
    edges = 2 + (part * (T - 1)).round().long()
    edges = (torch.arange(2, T + 2) if count >= T - 1 else edges.unique()).tolist()
    generator, chosen, weights, home = torch.Generator().manual_seed(seed), [], [], []
    for k, (low, high) in enumerate(pairwise(edges)):
        inside = (low + torch.randperm(high - low, generator=generator)[:2]).sort().values.tolist()
        chosen += inside
        weights += [(high - low) / len(inside)] * len(inside)
        home += [k] * len(inside)
    return (
        torch.tensor(chosen, dtype=torch.int64),
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(home, dtype=torch.int64),
    )


def encode(
    denoiser: NetworkDenoiser,
    images: Images,
    conditional: bool,
    steps: Tensor,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 100,
    progress: bool = False,
) -> Bound:
    """The bound's terms for images at these steps: those of ``variational_bound``, with x̂_0 clipped and σ_t² = β_t.

    conditional: whether the model is told the images' classes. A clipped x̂_0 is never farther from x_0, so clipping
    only lowers the terms of t >= 2. The decoder's may rise: its bins for black and white are open outwards, where a
    guess beyond them costs less than one at their level. Each batch has noise of its own.
    """
    parts = []
    chunks = range(0, len(images), batch)
    for k, start in enumerate(tqdm(chunks, desc="encoding", unit="batch", disable=not progress, leave=False)):
        part = images[start : start + batch]
        x0 = data.to_unit(part.pixels.to(device))
        asked = Clipped(denoiser.given(part.labels.to(device)) if conditional else denoiser)
        parts.append(variational_bound(asked, x0, seed=seed + k, steps=steps.tolist()))
    joined = {
        name: torch.cat([getattr(p, name).cpu() for p in parts]) for name in ("prior", "steps", "decoder")
    }
    return replace(parts[0], **joined)


def bound_rows(terms: Bound, weights: Tensor, home: Tensor) -> list[Row]:
    """Bits a dimension by term; the intervals hold the choice of images and that of steps by ``draw_steps``."""
    n, steps = len(terms.prior), bits_per_dim(terms.steps, terms.dims)
    prior, decoder = bits_per_dim(terms.prior, terms.dims), bits_per_dim(terms.decoder, terms.dims)
    middle, spread = steps @ weights, choice_variance(steps.mean(0), weights, home)
    how, both = "over images, ± 1.96 errors", "over images and steps, ± 1.96 errors"
    at = f"at {len(weights)} of {terms.T - 1} steps"
    return [
        Row.of(
            "bits",
            "bits/dim of held-out images",
            n,
            mean_interval(prior + middle + decoder, spread),
            both,
        ),
        Row.of("bits_prior", "  L_T, the prior's", n, mean_interval(prior), how),
        Row.of("bits_steps", f"  Σ L_t-1, {at}", n, mean_interval(middle, spread), both),
        Row.of("bits_decoder", "  L_0, the decoder's", n, mean_interval(decoder), how),
    ]


def choice_variance(values: Tensor, weights: Tensor, home: Tensor) -> float:
    """The variance of Σ weights · values, (K,) each, that comes from which steps ``draw_steps`` chose in its strata."""
    variance = 0.0
    for k in home.unique():
        inside = home == k
        size, drawn = weights[inside].sum().item(), int(inside.sum())
        if size > drawn:
            variance += size * (size - drawn) / drawn * values[inside].var().item()
    return variance
