"""How tensors come to a device, and how exactly it computes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on the device; to CUDA through pinned memory, so that the CPU need not wait for the copy.

    Anywhere else it waits: what comes to the CPU is looked at at once, and on MPS a copy under way may lose its source.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself, so that autocast to it saves time."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return False
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@contextmanager
def tf32(device: torch.device, wanted: bool) -> Iterator[None]:
    """Let CUDA round the factors of float32 products to 10 bits behind the point, or not; elsewhere nothing.

    Products of matrices and convolutions alike. Whoever calls finds CUDA's switches as they were.
    """
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn) if device.type == "cuda" else ()
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = wanted
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
