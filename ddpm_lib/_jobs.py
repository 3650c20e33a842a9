"""What each command of the command line is told: its arguments, with their help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ddpm_lib.config import TrainConfig

BOOK = Path(__file__).resolve().parents[1] / "book"
Flag = tyro.conf.FlagCreatePairsOff[bool]
Sampler = Literal["ancestral", "ddim", "dpm_solver"]
Spacing = Literal["uniform", "leading", "trailing", "quadratic", "log-snr"]


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

    run: tyro.conf.Positional[str]
    """Folder of the run, or pretrained:NAME for a model that comes with the package."""
    out: Path = Path("grid.png")
    """The picture to write."""
    n: int = 100
    """Number of images."""
    columns: int = 10
    """Images a row."""
    sampler: Sampler = "ancestral"
    """DDPM's ancestral sampler; or DDIM, which needs fewer steps; or DPM-Solver++, which needs fewest."""
    steps: int = 50
    """Steps to visit, at most the run's T (1000)."""
    eta: float | None = None
    """The noise of ddim and dpm_solver: 0 (the default) is deterministic, 1 as noisy as DDPM."""
    spacing: Spacing = "uniform"
    """Which steps are visited: evenly chosen ones, or more of the cleaner (quadratic), or even in log SNR."""
    classes: tuple[int, ...] = ()
    """Classes to draw, in turn; all of them if none is named."""
    unconditional: Flag = False
    """Let the model choose the classes."""
    guidance: float | None = None
    """Scale of the guidance towards the classes: 0 forgets them, 1 is the model's own answer, above 1 trades variety
    for clearer classes. Classifier-free, by the model's answers with and without the class, unless --classifier."""
    classifier: str | None = None
    """Guide the model's answer without a class by this classifier instead: the folder of a train-classifier run, or
    pretrained:noisy_classifier."""
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
    sampler: Sampler = "ancestral"
    """As in sample."""
    steps: int = 50
    """Steps to visit, at most the run's T."""
    eta: float | None = None
    """The noise of ddim and dpm_solver."""
    spacing: Spacing = "uniform"
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
class EvaluateClassifierJob:
    """Measure a classifier of noisy images: how many held-out images it finds the class of, by their noise."""

    run: tyro.conf.Positional[str]
    """Folder of the train-classifier run, or pretrained:NAME for a classifier that comes with the package."""
    out: Path | None = None
    """The JSON to write: evaluation.json in the run's folder if none is named; for a pretrained one, none."""
    steps: tuple[int, ...] = (1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
    """The steps at which held-out images are noised."""
    seed: int = 0
    """Decides the noise."""
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
