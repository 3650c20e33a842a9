"""The contestants of the quality benchmark, one module a package.

Each module has ``contestants() -> list[Contestant]``; it imports its package only when one of them trains.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from torch import Tensor

from ddpm_lib.data import Images

MODULES = ("ours", "with_diffusers", "with_denoising_diffusion", "with_smalldiffusion")
KINDS = ("ours", "best", "beyond", "course", "README")


@dataclass(frozen=True)
class Trained:
    """What training leaves: a sampler, and what the table says of it.

    sample: (n, labels (n,) int64 or None, seed) -> n images, (n, 1, 28, 28) uint8, by 20 steps of DDIM.
    """

    sample: Callable[[int, Tensor | None, int], Tensor]
    parameters: int
    images_seen: int


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    package: what must be installed, as Python imports it. kind: "ours", "README" (as the package's own
    documentation suggests), "course" (as its makers teach it for these digits), "best" (the best configuration found
    for it) or "beyond" (with what it does not offer). train: (images, seconds, seed) -> Trained, and no longer than
    seconds.
    """

    name: str
    package: str
    kind: str
    conditional: bool
    train: Callable[[Images, float, int], Trained]

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


def contestants() -> list[Contestant]:
    """All of them: ours, then the best of the others, then what takes longest."""
    modules = [importlib.import_module(f"{__name__}.{name}") for name in MODULES]
    every = [contestant for module in modules for contestant in module.contestants()]
    return sorted(every, key=lambda c: KINDS.index(c.kind))
