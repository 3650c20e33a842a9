"""Contestants built from ``diffusers``: UNet2DModel with its DDPM and DDIM schedulers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import Contestant, Trained
from benchmarks.peers.loop import (
    CLASSES,
    STEPS,
    HalfLife,
    Recipe,
    chunks,
    fit,
    middle_times,
    parameters,
)
from ddpm_lib.data import Images, to_bytes

PACKAGE = "diffusers"


@dataclass(frozen=True)
class Setup:
    """What of diffusers is used, and how."""

    widths: tuple[int, ...]
    layers: int = 1
    attention: tuple[int, ...] = ()
    """Levels with attention, counted from 0."""
    middle_attention: bool = False
    groups: int = 8
    scale_shift: str = "scale_shift"
    fold: int = 1
    """Side of the pixel squares that are folded into channels before diffusers sees them."""
    label_channels: int = 0
    """Channels beside the image that tell the class; 0 tells it through the network's own class embedding."""
    prediction: str = "v_prediction"
    betas: str = "linear"
    middle: bool = True
    """Whether t is drawn around the middle more often."""
    spacing: str = "trailing"
    rederive: bool = False
    """Whether DDIM derives ε again from the clipped image."""
    recipe: Recipe = field(default_factory=Recipe)


# The tutorial "Train a diffusion model" (widths 128, 128, 256, 256, 512, 512 for 128×128, attention at the last but
# one level) cut to the first three levels, as 28×28 has no more, with the settings of train_unconditional.py.
README = Setup(
    widths=(128, 128, 256),
    layers=2,
    attention=(1,),
    middle_attention=True,
    groups=32,
    scale_shift="default",
    prediction="epsilon",
    middle=False,
    spacing="leading",
    recipe=Recipe(
        batch=16,
        lr=1e-4,
        betas=(0.95, 0.999),
        weight_decay=1e-6,
        warmup=0,
        warmup_steps=500,
        average=lambda model: ItsAverage(model),
        sample_bf16=True,
    ),
)

# The class-conditional MNIST of Hugging Face's diffusion course (unit 2, second notebook): made for this very size.
COURSE = Setup(
    widths=(32, 64, 64),
    layers=2,
    attention=(1, 2),
    middle_attention=True,
    groups=32,
    scale_shift="default",
    label_channels=4,
    prediction="epsilon",
    betas="squaredcos_cap_v2",
    middle=False,
    spacing="leading",
    recipe=Recipe(batch=128, lr=1e-3, betas=(0.9, 0.999), warmup=0, cosine=False, clip=None),
)

BEST = Setup(widths=(16, 32, 64), betas="squaredcos_cap_v2", recipe=Recipe(average=HalfLife))

# What diffusers does not offer: 2×2 pixels folded into channels, as in our preset mnist5k, so that it works at 14×14.
FOLDED = replace(BEST, widths=(32, 64), fold=2)


def contestants() -> list[Contestant]:
    made = []
    for kind, setup in (("README", README), ("course", COURSE), ("best", BEST), ("beyond", FOLDED)):
        for conditional in (True, False) if kind in ("README", "best") else (True,):
            run = partial(train, setup, conditional)
            made.append(Contestant("diffusers", PACKAGE, kind, conditional, run))
    return made


def train(setup: Setup, conditional: bool, images: Images, seconds: float, seed: int) -> Trained:
    from diffusers import DDPMScheduler

    torch.manual_seed(seed)
    model = unet(setup, CLASSES if conditional else None)
    noising = DDPMScheduler(
        num_train_timesteps=1000, beta_schedule=setup.betas, prediction_type=setup.prediction
    )

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = F.pixel_unshuffle(x, setup.fold)
        eps = torch.randn_like(x)
        t = middle_times(len(x)) if setup.middle else torch.randint(0, 1000, (len(x),))
        target = eps if setup.prediction == "epsilon" else noising.get_velocity(x, eps, t)
        answer = model(noising.add_noise(x, eps, t), t, class_labels=y if conditional else None).sample
        return F.mse_loss(answer.float(), target)

    average, seen = fit(model, loss, images, setup.recipe, seconds)
    return Trained(partial(sample, setup, average), parameters(model), seen)


@torch.no_grad()
def sample(setup: Setup, model: nn.Module, n: int, labels: Tensor | None, seed: int) -> Tensor:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule=setup.betas,
        prediction_type=setup.prediction,
        timestep_spacing=setup.spacing,
    )
    scheduler.set_timesteps(STEPS)
    generator, made = torch.Generator().manual_seed(seed), []
    side = 28 // setup.fold
    for count, y in chunks(n, labels):
        x = torch.randn(count, setup.fold**2, side, side, generator=generator)
        for t in scheduler.timesteps:
            with setup.recipe.sampling():
                answer = model(x, t, class_labels=y).sample
            x = scheduler.step(answer.float(), t, x, use_clipped_model_output=setup.rederive).prev_sample
        made.append(to_bytes(F.pixel_shuffle(x, setup.fold)))
    return torch.cat(made)


def unet(setup: Setup, classes: int | None) -> nn.Module:
    from diffusers import UNet2DModel

    beside = setup.label_channels if classes else 0
    attend = [level in setup.attention for level in range(len(setup.widths))]
    net = UNet2DModel(
        sample_size=28 // setup.fold,
        in_channels=setup.fold**2 + beside,
        out_channels=setup.fold**2,
        layers_per_block=setup.layers,
        block_out_channels=setup.widths,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attend),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)),
        norm_num_groups=setup.groups,
        add_attention=setup.middle_attention,
        resnet_time_scale_shift=setup.scale_shift,
        num_class_embeds=None if beside else classes,
    )
    return LabelChannels(net, classes, beside) if beside else net


class LabelChannels(nn.Module):
    """A network that is told the class by constant channels beside the image, one learnt number each."""

    def __init__(self, net: nn.Module, classes: int, channels: int):
        super().__init__()
        self.net, self.embedding = net, nn.Embedding(classes, channels)

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor) -> object:
        told = self.embedding(class_labels)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.net(torch.cat([x, told], dim=1), t)


class ItsAverage:
    """The average that diffusers' training script keeps with --use_ema."""

    def __init__(self, model: nn.Module):
        from diffusers.training_utils import EMAModel

        self.model = model
        self.kept = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def update(self, gone: float) -> None:
        self.kept.step(self.model.parameters())

    @property
    def module(self) -> nn.Module:
        self.kept.copy_to(self.model.parameters())
        return self.model
