"""The command line: ``python -m ddpm_lib train mnist5k --out runs/a``, then ``... sample runs/a --out grid.png``.

``python -m ddpm_lib evaluate runs/a`` measures it, and ``python -m ddpm_lib ledger`` lists the book's equations.

Bad input ends with one line on standard error and exit code 2; Ctrl-C with a checkpoint and exit code 130, SIGTERM
with 143.
"""

import json
import os
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import tyro

from ddpm_lib import checkpoint, evaluation, plots, samplers, training
from ddpm_lib.config import PRESETS, TrainConfig
from ddpm_lib.denoiser import Clipped

BOOK = Path(__file__).resolve().parents[1] / "book"
Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class TrainJob:
    """Train a model and keep its checkpoints."""

    out: Path
    """Folder for the run's checkpoints, curve (metrics.jsonl) and samples; made if it is not there."""
    config: TrainConfig
    """The run. Lengths are counted in images seen."""
    resume: Flag = False
    """Go on from the newest whole checkpoint in --out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps. auto takes the first of CUDA, MPS, CPU that is there."""


@dataclass(frozen=True)
class SampleJob:
    """Draw images from a trained run and write them as one picture."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path = Path("grid.png")
    """The picture to write."""
    n: int = 100
    """Number of images."""
    columns: int = 10
    """Images a row."""
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """DDPM's ancestral sampler, or DDIM. In trials on these digits ancestral drew better ones in 50 steps."""
    steps: int = 50
    """Steps to visit, at most the run's T (1000)."""
    eta: float | None = None
    """DDIM's noise: 0 (the default there) is deterministic, 1 as noisy as DDPM. Only for ddim."""
    spacing: Literal["uniform", "leading", "trailing", "quadratic"] = "uniform"
    """Which steps are visited."""
    classes: tuple[int, ...] = ()
    """Classes to draw, in turn; all of them if none is named."""
    unconditional: Flag = False
    """Let the model choose the classes."""
    seed: int = 0
    """Image i depends on (seed, i) alone."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


@dataclass(frozen=True)
class EvaluateJob:
    """Measure a trained run: samples beside real images, copies among them, held-out images in bits/dim."""

    run: tyro.conf.Positional[str]
    """Folder of the run, or pretrained:NAME for a model that comes with the package."""
    out: Path | None = None
    """The JSON to write: evaluation.json in the run's folder if none is named; for a pretrained model, none."""
    n: int = 1000
    """Number of samples, all classes in turn."""
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """As in sample."""
    steps: int = 50
    """Steps to visit, at most the run's T."""
    eta: float | None = None
    """DDIM's noise."""
    spacing: Literal["uniform", "leading", "trailing", "quadratic"] = "uniform"
    """Which steps are visited."""
    extractor: str = "digits"
    """Whose features the distances are taken in: digits, the classifier that comes with the package, for MNIST; or
    inception:PATH with the weights file that torch-fidelity uses, which must be installed: ddpm-lib[inception]."""
    bound_images: int = 500
    """How many held-out images to encode for bits/dim; 0 for none."""
    bound_steps: int = 100
    """At how many steps of the bound, drawn at random; T - 1 or more for all."""
    batch: int = 100
    """Images computed at a time."""
    seed: int = 0
    """Decides the samples and every other draw."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


@dataclass(frozen=True)
class LedgerJob:
    """List every labelled equation of the book: how it was checked, and what computes it."""

    book: Path = BOOK
    """Folder of the chapters."""
    json: Flag = False
    """Print JSON instead of text."""
    mutants: Flag = False
    """Also try wrong versions of each equation, which are to be refused; takes minutes."""


def train(job: TrainJob) -> None:
    """Train a model and keep its checkpoints."""
    device = training.pick_device(job.device)
    _check_writable(job.out)
    if not job.resume and checkpoint.exists(job.out):
        raise ValueError(f"out: {job.out} already holds a run; add --resume to go on, or name another folder")
    with training.joined(device, job.config.compile) as world:
        say = partial(print, flush=True) if world.first else lambda *_, **__: None
        if not world.first:
            warnings.showwarning = say
        trainer = training.Trainer(job.config, device, world=world)
        if job.resume:
            trainer.restore(job.out)
        parameters = sum(p.numel() for p in trainer.net.parameters())
        where = (
            _describe(device) if world.size == 1 else f"{world.size} processes, each on {_describe(device)}"
        )
        say(f"{parameters:,} parameters, {len(trainer.images):,} images, on {where}")
        begun, seen = time.perf_counter(), trainer.images_seen
        try:
            trainer.fit(job.out)
        except KeyboardInterrupt:
            say(f"stopped and saved at {trainer.images_seen:,} images; go on with --resume", file=sys.stderr)
            raise
        seconds = time.perf_counter() - begun
        rate = (trainer.images_seen - seen) / seconds
        say(f"saved {job.out} at {trainer.images_seen:,} images: {seconds:.0f} s, {rate:.0f} images/s")


def sample(job: SampleJob) -> None:
    """Draw images from a trained run and write them as one picture."""
    if job.n < 1 or job.columns < 1:
        raise ValueError(f"n, columns: expected at least 1, got {job.n} and {job.columns}")
    if job.eta is not None and job.sampler != "ddim":
        raise ValueError(f"eta: expected only with --sampler ddim, got it with {job.sampler}")
    _check_writable(job.out.parent)
    device = training.pick_device(job.device)
    denoiser, config = training.load_denoiser(job.run, device)
    denoiser = denoiser.given(_labels(job, config, device))
    shape = (job.n, config.model.in_channels, config.model.image_size, config.model.image_size)
    options = {} if job.eta is None else {"eta": job.eta}
    begun = time.perf_counter()
    x = samplers.sample(
        Clipped(denoiser),
        shape,
        getattr(samplers, job.sampler),
        steps=job.steps,
        spacing=job.spacing,
        seed=job.seed,
        device=device,
        progress=True,
        **options,
    )
    seconds = time.perf_counter() - begun
    plots.save_grid(x, job.out, job.columns)
    print(
        f"wrote {job.out}: {job.n} images by {job.sampler} in {job.steps} steps, {seconds:.1f} s on {_describe(device)}"
    )


def evaluate(job: EvaluateJob) -> None:
    """Measure a trained run: samples beside real images, copies among them, held-out images in bits/dim."""
    device = training.pick_device(job.device)
    kind, _, name = job.run.partition(":")
    shipped = kind == "pretrained"
    load = training.load_pretrained if shipped else training.load_denoiser
    denoiser, config = load(name if shipped else job.run, device)
    out = job.out or (None if shipped else Path(job.run) / "evaluation.json")
    if out is not None:
        _check_writable(out.parent)
    options = ("n", "sampler", "steps", "eta", "spacing", "bound_images", "bound_steps", "batch", "seed")
    report = evaluation.evaluate(
        denoiser,
        config,
        extractor=evaluation.find_extractor(job.extractor, config.data, device),
        device=device,
        progress=True,
        **{option: getattr(job, option) for option in options},
    )
    report = replace(report, about={"run": job.run} | report.about)
    print(report.as_text())
    if out is not None:
        text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
        checkpoint.write_atomic(out, (text + "\n").encode())
        print(f"wrote {out}")


def ledger(job: LedgerJob) -> None:
    """List every labelled equation of the book: how it was checked, and what computes it."""
    try:
        from ddpm_lib.proof import ledger as book

        found = book.entries(job.book, job.mutants, progress=job.mutants)
    except ImportError as error:
        raise ValueError(f"ledger: {error}") from None
    print(json.dumps(book.as_json(found), indent=1, ensure_ascii=False) if job.json else book.as_text(found))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    jobs = {name: TrainJob(out=tyro.MISSING, config=make()) for name, make in PRESETS.items()}
    told = {name: (make.__doc__ or "").splitlines()[0] for name, make in PRESETS.items()}
    preset = tyro.extras.subcommand_type_from_defaults(jobs, told, prefix_names=False)

    def train_preset(job: preset) -> None:
        """Train a model: name a preset, and after it the values to change.

        On several GPUs: torchrun --nproc-per-node 8 -m ddpm_lib train PRESET --out runs/a. They share each batch, and
        the run is the same but for rounding. Ctrl-C saves; --resume goes on, on any number of GPUs.
        """
        train(job)

    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"train": train_preset, "sample": sample, "evaluate": evaluate, "ledger": ledger},
            prog="python -m ddpm_lib",
            description="Train, sample and measure diffusion models, and list the book's checked equations.",
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        )
    except (ValueError, OSError, FloatingPointError) as error:
        rank = os.environ.get("RANK", "0")  # of a process that torchrun started
        print(f"error: {error}" if rank == "0" else f"error: process {rank}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    return 0


def _labels(job: SampleJob, config: TrainConfig, device: torch.device) -> torch.Tensor | None:
    count = config.model.num_classes
    if job.unconditional or count is None:
        if job.classes:
            raise ValueError("classes: expected none, as the images are to be drawn without a class")
        return None
    classes = torch.tensor(job.classes or range(count))
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"classes: expected classes in 0..{count - 1}, got {list(job.classes)}")
    return classes[torch.arange(job.n) % len(classes)].to(device)


def _check_writable(folder: Path) -> None:
    """Fail before the work is done, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"out: cannot write to {folder}: {error.strerror}") from None


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else str(device)


__all__ = ["evaluate", "ledger", "main", "sample", "train"]
