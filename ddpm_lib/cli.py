"""The command line: ``python -m ddpm_lib train mnist5k --out runs/a``, then ``... sample runs/a --out grid.png``.

``python -m ddpm_lib evaluate runs/a`` measures it; ``train-classifier`` trains what can guide its samples to a
class, and ``evaluate-classifier`` measures that; ``python -m ddpm_lib ledger`` lists the book's equations.

Bad input ends with a message on standard error and exit code 2; Ctrl-C with a checkpoint and exit code 130, SIGTERM
with 143.
"""

import io
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import tyro

from ddpm_lib import checkpoint, evaluation, guidance, plots, samplers, training
from ddpm_lib._jobs import EvaluateClassifierJob, EvaluateJob, LedgerJob, SampleJob, TrainJob
from ddpm_lib.config import CLASSIFIERS, PRESETS, TrainConfig
from ddpm_lib.denoiser import Clipped, Denoiser, NetworkDenoiser
from ddpm_lib.metrics import Report


def train(job: TrainJob, objective: str = "") -> None:
    """Train a model, or for objective "class" a classifier, and keep its checkpoints."""
    if (job.config.objective == "class") != (objective == "class"):
        wanted = (
            "'class' in train-classifier" if objective else "eps, x0 or v, or the command train-classifier"
        )
        raise ValueError(f"objective: expected {wanted}, got {job.config.objective!r}")
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
        except KeyboardInterrupt as stop:
            say(_stopped(job.out, trainer.images_seen, saved=bool(stop.args)), file=sys.stderr)
            raise
        seconds = time.perf_counter() - begun
        rate = (trainer.images_seen - seen) / seconds
        say(f"saved {job.out} at {trainer.images_seen:,} images: {seconds:.0f} s, {rate:.0f} images/s")


def sample(job: SampleJob) -> None:
    """Draw images from a trained run and write them as one picture."""
    if job.n < 1 or job.columns < 1:
        raise ValueError(f"n, columns: expected at least 1, got {job.n} and {job.columns}")
    options = evaluation.noise_option(job.sampler, job.eta)
    plots.check_picture(job.out)
    _check_writable(job.out.parent)
    device = training.pick_device(job.device)
    denoiser, config = _load(job.run, device)
    denoiser = _guided(job, denoiser, config, device)
    shape = (job.n, config.model.in_channels, config.model.image_size, config.model.image_size)
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
    x = x.cpu()  # the device may still be at work
    seconds = time.perf_counter() - begun
    plots.save_grid(x, job.out, job.columns)
    print(
        f"wrote {job.out}: {job.n} images by {job.sampler} in {job.steps} steps, {seconds:.1f} s on {_describe(device)}"
    )


def evaluate(job: EvaluateJob) -> None:
    """Measure a trained run: samples beside real images, copies among them, held-out images in bits/dim."""
    device = training.pick_device(job.device)
    denoiser, config = _load(job.run, device)
    out = _report_path(job)
    options = ("n", "sampler", "steps", "eta", "spacing", "bound_images", "bound_steps", "batch", "seed")
    report = evaluation.evaluate(
        denoiser,
        config,
        extractor=evaluation.find_extractor(job.extractor, config.data, device),
        device=device,
        progress=True,
        **{option: getattr(job, option) for option in options},
    )
    _tell(replace(report, about={"run": job.run} | report.about), out)


def evaluate_classifier(job: EvaluateClassifierJob) -> None:
    """Measure a classifier of noisy images: how many held-out images it finds the class of, by their noise."""
    device = training.pick_device(job.device)
    net, config = _load(job.run, device, classifier=True)
    out = _report_path(job)
    report = evaluation.evaluate_classifier(net, config, job.steps, job.seed, device)
    _tell(replace(report, about={"run": job.run} | report.about), out)


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
    preset, classifier_preset = _choice(PRESETS), _choice(CLASSIFIERS)
    for stream in (sys.stdout, sys.stderr):
        # what a pipe's encoding lacks, as Σ on Windows, ends no command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def train_preset(job: preset) -> None:
        """Train a model: name a preset, and after it the values to change.

        On several GPUs: torchrun --nproc-per-node 8 -m ddpm_lib train PRESET --out runs/a. They share each batch;
        but for rounding and dropout's draws the run is the same. Ctrl-C saves; --resume goes on, on any number of GPUs.
        """
        train(job)

    def train_classifier(job: classifier_preset) -> None:
        """Train a classifier of noisy images, to guide samples by: name a preset, and after it the values to change.

        All else is as in train.
        """
        train(job, "class")

    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        tyro.extras.subcommand_cli_from_dict(
            {
                "train": train_preset,
                "train-classifier": train_classifier,
                "sample": sample,
                "evaluate": evaluate,
                "evaluate-classifier": evaluate_classifier,
                "ledger": ledger,
            },
            prog="python -m ddpm_lib",
            description="Train, sample and measure diffusion models, and list the book's checked equations.",
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        )
    except (
        BrokenPipeError
    ):  # whoever reads has read enough, as head does; nothing more can be told, at the exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as of a program that SIGPIPE ends
    except (ValueError, OSError, FloatingPointError) as error:
        rank = os.environ.get("RANK", "0")  # of a process that torchrun started
        print(f"error: {error}" if rank == "0" else f"error: process {rank}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    return 0


def _stopped(out: Path, images: int, saved: bool) -> str:
    """What to say of a run that was stopped; a second signal, or one before the first step, stops without saving."""
    if saved:
        return f"stopped and saved at {images:,} images; go on with --resume"
    last = "go on from the last checkpoint with --resume" if checkpoint.exists(out) else "no checkpoint yet"
    return f"stopped at {images:,} images without saving; {last}"


def _choice(presets: dict):
    """The type of the command line's choice of one of these presets."""
    jobs = {name: TrainJob(out=tyro.MISSING, config=make()) for name, make in presets.items()}
    told = {name: (make.__doc__ or "").splitlines()[0] for name, make in presets.items()}
    return tyro.extras.subcommand_type_from_defaults(jobs, told, prefix_names=False)


def _load(spec: str, device: torch.device, classifier: bool = False) -> tuple:
    """The network that a command line names, pretrained:NAME or the folder of a run, and its config."""
    kind, _, name = spec.partition(":")
    shipped, own = (
        (training.load_pretrained_classifier, training.load_noisy_classifier)
        if classifier
        else (training.load_pretrained, training.load_denoiser)
    )
    return shipped(name, device) if kind == "pretrained" else own(spec, device)


def _guided(job: SampleJob, denoiser: NetworkDenoiser, config: TrainConfig, device: torch.device) -> Denoiser:
    """The denoiser that is asked for the job's classes, with the guidance that the job wants."""
    scale = 1.0 if job.guidance is None else job.guidance
    if job.classifier is None:
        y = _labels(job, config.model.num_classes, device)
        if job.guidance is None:
            if y is None:
                _check_null_label("unconditional", config)
            return denoiser.given(y)
        if y is None:
            raise ValueError(
                "guidance: expected classes to guide to, as the images are drawn without a class"
            )
        if scale != 1:  # which is the answer with the class alone
            _check_null_label("guidance", config)
        return guidance.ClassifierFree(denoiser.given(y), denoiser.given(None), scale)
    _check_null_label("classifier", config)
    net, trained = _load(job.classifier, device, classifier=True)
    for name in ("image_size", "in_channels"):
        if getattr(trained.model, name) != getattr(config.model, name):
            raise ValueError(
                f"classifier: expected one of images with {name} = {getattr(config.model, name)}, as the run's, "
                f"got {getattr(trained.model, name)}"
            )
    if (trained.schedule, trained.T) != (config.schedule, config.T):
        raise ValueError(
            f"classifier: expected one of the run's schedule, {config.schedule} with T = {config.T}, "
            f"got {trained.schedule} with T = {trained.T}"
        )
    y = _labels(job, trained.model.num_classes, device)
    if y is None:
        raise ValueError("unconditional: expected classes for the classifier to guide to")
    return guidance.ClassifierGuided(denoiser.given(None), guidance.log_prob_of(net, y), scale)


def _check_null_label(name: str, config: TrainConfig) -> None:
    """Raise ValueError where a network that takes labels was never trained to answer without one."""
    if config.model.num_classes is not None and config.label_dropout == 0:
        raise ValueError(
            f"{name}: expected a run that was trained to answer without a class too, label_dropout > 0, got 0"
        )


def _labels(job: SampleJob, count: int | None, device: torch.device) -> torch.Tensor | None:
    if job.unconditional or count is None:
        if job.classes:
            raise ValueError("classes: expected none, as the images are to be drawn without a class")
        return None
    classes = torch.tensor(job.classes or range(count))
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"classes: expected classes in 0..{count - 1}, got {list(job.classes)}")
    return classes[torch.arange(job.n) % len(classes)].to(device)


def _report_path(job: EvaluateJob | EvaluateClassifierJob) -> Path | None:
    """Where the report goes, which can be written to."""
    out = job.out or (None if job.run.startswith("pretrained:") else Path(job.run) / "evaluation.json")
    if out is not None:
        _check_writable(out.parent)
    return out


def _tell(report: Report, out: Path | None) -> None:
    if out is not None:
        text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
        checkpoint.write_atomic(out, (text + "\n").encode())
    print(report.as_text())
    if out is not None:
        print(f"wrote {out}")


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


__all__ = ["evaluate", "evaluate_classifier", "ledger", "main", "sample", "train"]
