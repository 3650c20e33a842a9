"""Contestants built from ``denoising_diffusion_pytorch``: its Unet, GaussianDiffusion and DDIM sampler."""

from __future__ import annotations

import contextlib
import importlib
import os
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.peers import Contestant, Trained
from benchmarks.peers.loop import CLASSES, STEPS, HalfLife, Recipe, chunks, fit, middle_times, parameters
from ddpm_lib.data import Images

PACKAGE = "denoising_diffusion_pytorch"


@dataclass(frozen=True)
class Setup:
    """What of the package is used, and how. Keywords are the package's own."""

    unet: dict
    diffusion: dict
    middle: bool = False
    """Whether t is drawn around the middle more often."""
    guidance: float = 6.0
    """Scale of the classifier-free guidance, for the module that has classes."""
    rescaled_phi: float = 0.7
    """The share in which a guided answer is scaled back to the deviation of the unguided one; 0.7 is its default."""
    recipe: Recipe = field(default_factory=Recipe)


# The README's first lines, its Trainer's settings, and three levels instead of four, as 28 = 4 · 7.
README = Setup(
    unet={"dim": 64, "dim_mults": (1, 2, 4), "flash_attn": True},
    diffusion={"timesteps": 1000},
    recipe=Recipe(
        batch=32,
        lr=8e-5,
        warmup=0,
        cosine=False,
        accumulate=2,
        average=lambda model: ItsAverage(model),
        sample_bf16=True,
    ),
)
# The example at the end of classifier_free_guidance.py, with the same Trainer's settings.
README_CLASSES = Setup(
    unet={"dim": 64, "dim_mults": (1, 2, 4), "cond_drop_prob": 0.5},
    diffusion={"timesteps": 1000},
    guidance=6.0,
    recipe=README.recipe,
)

BEST = Setup(
    unet={"dim": 16, "dim_mults": (1, 2, 4), "attn_heads": 2, "attn_dim_head": 16},
    diffusion={"objective": "pred_v"},
    recipe=Recipe(average=HalfLife),
)
BEST_CLASSES = Setup(
    unet={"dim": 16, "dim_mults": (1, 2, 4), "attn_heads": 2, "attn_dim_head": 16, "cond_drop_prob": 0.1},
    diffusion={"objective": "pred_v", "ddim_sampling_eta": 0.0},
    middle=True,
    guidance=1.001,
    rescaled_phi=0.0,
    recipe=Recipe(average=HalfLife),
)


def contestants() -> list[Contestant]:
    rows = (
        ("README", True, README_CLASSES),
        ("README", False, README),
        ("best", True, BEST_CLASSES),
        ("best", False, BEST),
    )
    return [
        Contestant(
            "denoising-diffusion-pytorch", PACKAGE, kind, conditional, partial(train, setup, conditional)
        )
        for kind, conditional, setup in rows
    ]


def train(setup: Setup, conditional: bool, images: Images, seconds: float, seed: int) -> Trained:
    torch.manual_seed(seed)
    module = importlib.import_module(
        f"{PACKAGE}.classifier_free_guidance" if conditional else f"{PACKAGE}.denoising_diffusion_pytorch"
    )
    unet = module.Unet(channels=1, **({"num_classes": CLASSES} if conditional else {}), **setup.unet)
    diffusion = module.GaussianDiffusion(unet, image_size=28, sampling_timesteps=STEPS, **setup.diffusion)
    T = diffusion.num_timesteps

    def loss(diffusion: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        told = {"classes": y} if conditional else {}
        times = {"times": middle_times(len(x), T)} if setup.middle else {}
        return diffusion((x + 1) / 2, **told, **times)

    average, seen = fit(diffusion, loss, images, setup.recipe, seconds)
    return Trained(partial(sample, setup, average), parameters(unet), seen)


def sample(setup: Setup, diffusion: nn.Module, n: int, labels: Tensor | None, seed: int) -> Tensor:
    torch.manual_seed(seed)
    made = []
    for count, y in chunks(n, labels):
        with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet), setup.recipe.sampling():
            made.append(
                diffusion.sample(batch_size=count)
                if y is None
                else diffusion.sample(y, cond_scale=setup.guidance, rescaled_phi=setup.rescaled_phi)
            )
    return (torch.cat(made).float().clamp(0, 1) * 255).round().to(torch.uint8)


class ItsAverage:
    """The average that the package's Trainer keeps."""

    def __init__(self, model: nn.Module):
        from ema_pytorch import EMA

        self.kept = EMA(model, beta=0.995, update_every=10)

    def update(self, gone: float) -> None:
        self.kept.update()

    @property
    def module(self) -> nn.Module:
        return self.kept.ema_model
