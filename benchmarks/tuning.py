"""How the best configuration of each peer was looked for: variants of it, each changed in one respect.

    python -m benchmarks tuning                         60 s of training each, one seed
    python -m benchmarks tuning --only smalldiffusion   the variants of one package
    python -m benchmarks tuning --seconds 300           at the benchmark's own length

The measure is that of the benchmark ``quality``. "as it is" is ``BEST`` of the peer's module; up to what seeds make of
it, it should be the first of its package's rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tyro

from benchmarks import quality
from benchmarks.peers import Contestant
from benchmarks.peers import with_denoising_diffusion as dd
from benchmarks.peers import with_diffusers as hf
from benchmarks.peers import with_smalldiffusion as sd
from benchmarks.peers.loop import Recipe


@dataclass(frozen=True)
class Options(quality.Options):
    """Variants of the peers' best configurations, measured as the benchmark measures them."""

    seconds: float = 60
    """Training time of each variant."""
    n: int = 500
    """Images that each draws."""
    out: Path = Path("runs/bench/tuning.json")
    """Where results are kept, after each variant."""


def main(argv: list[str] | None = None) -> dict:
    """Measure the chosen variants; prints the table and returns the results."""
    return quality.measured(tyro.cli(Options, args=argv, prog="python -m benchmarks tuning"), variants())


def variants() -> list[Contestant]:
    """Every variant, as a contestant whose kind says what is changed."""
    made = []
    for name, module, conditional, best, changes in (
        ("diffusers", hf, True, hf.BEST, of_diffusers),
        ("smalldiffusion", sd, True, sd.BEST, of_smalldiffusion),
        ("denoising-diffusion-pytorch", dd, True, dd.BEST_CLASSES, of_its_classes),
        ("denoising-diffusion-pytorch", dd, False, dd.BEST, of_denoising_diffusion),
    ):
        setups = {"as it is": best, **changes(best)}
        setups |= {change: replace(best, recipe=recipe) for change, recipe in of_recipe(best.recipe).items()}
        for change, setup in setups.items():
            run = partial(module.train, setup, conditional)
            made.append(Contestant(name, module.PACKAGE, change, conditional, run))
    return made


def of_recipe(best: Recipe) -> dict[str, Recipe]:
    return {
        "batch 16": replace(best, batch=16),
        "batch 64": replace(best, batch=64),
        "lr 1e-3": replace(best, lr=1e-3),
        "lr 4e-3": replace(best, lr=4e-3),
    }


def of_diffusers(best: hf.Setup) -> dict[str, hf.Setup]:
    return {
        "widths 32 64 64": replace(best, widths=(32, 64, 64)),
        "widths 16 64 128": replace(best, widths=(16, 64, 128)),
        "two layers": replace(best, layers=2),
        "attention at 7": replace(best, attention=(2,), middle_attention=True),
        "time added": replace(best, scale_shift="default"),
        "even t": replace(best, middle=False),
        "noise": replace(best, prediction="epsilon"),
        "linear schedule, even t": replace(best, betas="linear", middle=False),
        "other schedule": replace(best, betas="linear" if best.betas != "linear" else "squaredcos_cap_v2"),
        "noise derived again": replace(best, rederive=True),
        "linspace": replace(best, spacing="linspace"),
    }


def of_smalldiffusion(best: sd.Setup) -> dict[str, sd.Setup]:
    small = {"num_res_blocks": 1, "attn_resolutions": (), "dropout": 0.0}
    narrow = {"ch": 32, "ch_mult": (1, 1, 2), **small}
    noise, v = (partial(sd.unet, wrap, **narrow) for wrap in (("Scaled",), ("Scaled", "PredV")))
    log_linear = partial(sd.named_schedule, "ScheduleLogLinear", sigma_min=0.01, sigma_max=20, N=800)
    ddpm, cosine = (partial(sd.named_schedule, name) for name in ("ScheduleDDPM", "ScheduleCosine"))
    flow = ("PredFlow",)
    return {
        "even t": replace(best, schedule=partial(sd.named_schedule, "ScheduleFlow")),
        "v, linear": replace(best, model=v, schedule=ddpm),
        "v, cosine": replace(best, model=v, schedule=cosine),
        "v, log-linear": replace(best, model=v, schedule=log_linear),
        "noise, linear": replace(best, model=noise, schedule=ddpm),
        "noise, log-linear": replace(best, model=noise, schedule=log_linear),
        "two levels": replace(best, model=partial(sd.unet, flow, ch=32, ch_mult=(1, 2), **small)),
        "widths 32 64 64": replace(best, model=partial(sd.unet, flow, ch=32, ch_mult=(1, 2, 2), **small)),
        "widths 32 64 128": replace(best, model=partial(sd.unet, flow, ch=32, ch_mult=(1, 2, 4), **small)),
        "attention at 7": replace(best, model=partial(sd.unet, flow, **{**narrow, "attn_resolutions": (7,)})),
        "transformer": replace(
            best, model=partial(sd.dit, flow, patch_size=4, depth=6, head_dim=32, num_heads=4)
        ),
        "DDIM": replace(best, gam=1.0),
        "gam 2": replace(best, gam=2.0),
    }


def of_its_classes(best: dd.Setup) -> dict[str, dd.Setup]:
    return of_denoising_diffusion(best, "linear") | {
        "guidance 1.5": replace(best, guidance=1.5),
        "more noise": replace(best, diffusion={**best.diffusion, "ddim_sampling_eta": 1.0}),
    }


def of_denoising_diffusion(best: dd.Setup, *schedules: str) -> dict[str, dd.Setup]:
    made = {
        "dim 8": replace(best, unet={**best.unet, "dim": 8}),
        "dim 8, 1 4 8": replace(best, unet={**best.unet, "dim": 8, "dim_mults": (1, 4, 8)}),
        "dim 24": replace(best, unet={**best.unet, "dim": 24}),
        "two levels": replace(best, unet={**best.unet, "dim_mults": (1, 2)}),
        "middle t" if not best.middle else "even t": replace(best, middle=not best.middle),
        "noise": replace(best, diffusion={**best.diffusion, "objective": "pred_noise"}),
        "min-snr": replace(best, diffusion={**best.diffusion, "min_snr_loss_weight": True}),
    }
    for name in schedules or ("linear", "cosine"):
        made[f"{name} schedule"] = replace(best, diffusion={**best.diffusion, "beta_schedule": name})
    return made
