"""Contestants built from ``smalldiffusion``: its Unet and DiT, schedules and sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from benchmarks.peers import Contestant, Trained
from benchmarks.peers.loop import CLASSES, STEPS, HalfLife, Recipe, chunks, fit, parameters
from ddpm_lib.data import Images, to_bytes

PACKAGE = "smalldiffusion"


@dataclass(frozen=True)
class Setup:
    """What of the package is used, and how. Keywords are the package's own."""

    model: Callable[[nn.Module | None], nn.Module]
    """Class embedding or None -> network."""
    embedded: int
    """Width of the class embedding that the network adds to that of the noise level."""
    schedule: Callable[[], object]
    gam: float = 1.0
    """1 is DDIM; above 1 is the package's accelerated sampler."""
    dropout: float = 0.1
    """Share of labels dropped."""
    recipe: Recipe = field(default_factory=Recipe)


def unet(wrap: tuple[str, ...], embed: nn.Module | None, **options) -> nn.Module:
    """Its Unet inside the named wrappers, which say how the input is scaled and what is predicted."""
    import smalldiffusion

    return wrapped(smalldiffusion.Unet, wrap)(28, 1, 1, cond_embed=embed, **options)


def dit(wrap: tuple[str, ...], embed: nn.Module | None, **options) -> nn.Module:
    """Its transformer inside the named wrappers."""
    import smalldiffusion

    return wrapped(smalldiffusion.DiT, wrap)(28, 1, cond_embed=embed, **options)


def wrapped(kind: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    import smalldiffusion

    for name in names:
        kind = getattr(smalldiffusion, name)(kind)
    return kind


def named_schedule(name: str, **options):
    import smalldiffusion

    return getattr(smalldiffusion, name)(**options)


# examples/fashion_mnist_unet.py, for images of this very size; the batch of 1024 is cut to 32, as 300 s on a CPU are
# else some 25 steps.
README = Setup(
    model=partial(unet, ("Scaled",), ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,)),
    embedded=256,
    schedule=partial(named_schedule, "ScheduleLogLinear", sigma_min=0.01, sigma_max=20, N=800),
    gam=1.6,
    recipe=Recipe(
        batch=32,
        lr=7e-4,
        betas=(0.9, 0.999),
        weight_decay=0.01,
        warmup=0,
        cosine=False,
        clip=None,
        average=lambda model: ItsAverage(model),
    ),
)

# Flow matching, with t drawn around the middle as the package offers it; its accelerated sampler beats its DDIM, and
# takes the same 20 steps.
BEST = Setup(
    model=partial(
        unet, ("PredFlow",), ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(), dropout=0.0
    ),
    embedded=128,
    schedule=partial(named_schedule, "ScheduleLogNormalFlow"),
    gam=1.6,
    recipe=Recipe(average=HalfLife),
)


def contestants() -> list[Contestant]:
    made = []
    for kind, setup in (("README", README), ("best", BEST)):
        for conditional in (True, False):
            made.append(
                Contestant("smalldiffusion", PACKAGE, kind, conditional, partial(train, setup, conditional))
            )
    return made


def train(setup: Setup, conditional: bool, images: Images, seconds: float, seed: int) -> Trained:
    import smalldiffusion

    torch.manual_seed(seed)
    embed = smalldiffusion.CondEmbedderLabel(setup.embedded, CLASSES, setup.dropout) if conditional else None
    model, schedule = setup.model(embed), setup.schedule()
    get_loss = type(model).get_loss

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        pair = (x, y) if conditional else x
        x0, sigma, eps, cond = smalldiffusion.generate_train_sample(pair, schedule, conditional)
        return get_loss(model, x0, sigma, eps, cond=cond)

    average, seen = fit(model, loss, images, setup.recipe, seconds)
    return Trained(partial(sample, setup, average), parameters(model), seen)


def sample(setup: Setup, model: nn.Module, n: int, labels: Tensor | None, seed: int) -> Tensor:
    from accelerate import Accelerator
    from smalldiffusion import samples

    torch.manual_seed(seed)
    sigmas, made = setup.schedule().sample_sigmas(STEPS), []
    for count, y in chunks(n, labels):
        *_, x0 = samples(
            model, sigmas, gam=setup.gam, batchsize=count, cond=y, accelerator=Accelerator(cpu=True)
        )
        made.append(to_bytes(x0))
    return torch.cat(made)


class ItsAverage:
    """The average of the package's examples: torch_ema's, with a decay of 0.999."""

    def __init__(self, model: nn.Module):
        self.model, self.updates = model, 0
        self.kept = AveragedModel(model, multi_avg_fn=self._blend)

    def update(self, gone: float) -> None:
        self.updates += 1
        self.kept.update_parameters(self.model)

    def _blend(self, average: list[Tensor], current: list[Tensor], _) -> None:
        decay = min(0.999, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(average, current, 1 - decay)

    @property
    def module(self) -> nn.Module:
        return self.kept.module
