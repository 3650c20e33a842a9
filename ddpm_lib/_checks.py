"""Checks at the door of public functions: one sentence that names the argument, what came and what was expected."""

from __future__ import annotations

import torch
from torch import Tensor


def check_steps(name: str, t: Tensor, low: int, high: int) -> None:
    """Raise ValueError unless t holds integers in low..high."""
    if not isinstance(t, Tensor) or t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
        got = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise ValueError(f"{name}: expected an integer tensor of steps, got {got}")
    if t.device.type == "meta" or t.numel() == 0:
        return
    steps = t.flatten().tolist()
    if min(steps) < low or max(steps) > high:
        raise ValueError(f"{name}: expected steps in {low}..{high}, got {min(steps)}..{max(steps)}")


def check_batch(name: str, x: Tensor, t: Tensor) -> None:
    """Raise ValueError unless x is a floating-point batch (B, ...) and t is (B,)."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected a floating-point tensor, got {got}")
    if x.ndim < 1 or t.shape != x.shape[:1]:
        raise ValueError(f"t: expected one step a sample, shape {tuple(x.shape[:1])}, got {tuple(t.shape)}")


def check_same_shape(name: str, x: Tensor, other: str, y: Tensor) -> None:
    """Raise ValueError unless x and y have one shape."""
    if x.shape != y.shape:
        raise ValueError(f"{name}: expected the shape of {other}, {tuple(y.shape)}, got {tuple(x.shape)}")
