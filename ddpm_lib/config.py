"""What a training run is, as one flat typed record that JSON can hold, and runs worth starting from."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ddpm_lib import schedule as schedules
from ddpm_lib.guidance import NoisyClassifier
from ddpm_lib.schedule import Schedule
from ddpm_lib.unet import UNet, UNetConfig, paper


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run. Lengths are counted in images seen, not in steps."""

    data: str = "mnist5k"
    """Name of the data set: mnist5k, mnist, fashion-mnist, cifar10, or folder:PATH for images of your own."""
    augment: Literal["none", "flip", "affine"] = "none"
    """Changes drawn anew each time an image is seen: left and right exchanged; or small turns, scalings and shears."""
    model: UNetConfig = field(default_factory=UNetConfig)
    """The network."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Noise schedule."""
    T: int = 1000
    """Number of noising steps."""
    objective: Literal["eps", "x0", "v", "class"] = "v"
    """What the network predicts: the noise, the clean image, or the velocity between them; or, in train-classifier,
    the class of the clean image."""
    times: Literal["uniform", "middle", "stratified"] = "middle"
    """How training draws t from 1..T: evenly; more often around the middle (logit-normal); or evenly and with the
    steps of one batch spread out over all of 1..T."""
    weighting: Literal["simple", "bound", "min-snr"] = "simple"
    """What the loss at t counts: the same at each t (DDPM's simple loss); as in the bound on -log p, in units of the
    mean over t; or as the clean image's error times min(SNR_t, gamma)."""
    gamma: float = 5.0
    """Where min-snr caps the signal-to-noise ratio."""
    images: int = 70_000
    """Length of the run."""
    batch: int = 32
    """Images a step, whatever the number of processes that share them."""
    accumulate: int = 1
    """Micro-batches that a process divides its part of a batch into, one after the other, where memory is short."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 3_000
    """Images over which the learning rate rises from 0."""
    lr_decay: Literal["cosine", "none"] = "cosine"
    """After the rise the learning rate falls to 0 along half a cosine, or stays."""
    adam_betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's two decay rates."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    clip_gradient: float = 1.0
    """Largest norm of the gradient."""
    label_dropout: float = 0.1
    """Share of labels replaced by the null label, which is what sampling without a class asks for."""
    ema_half_life: int = 4_000
    """Half-life of the averaged weights, in images; samples are drawn from these."""
    ema_ramp: float = 0.05
    """Early on the half-life is this share of the images seen, so that the average forgets its start."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the hardware computes in bf16 (CUDA; CPUs with AVX512-BF16 or AMX), else fp32."""
    tf32: bool = True
    """Let CUDA round the factors of float32 products to 10 bits behind the point, which is several times faster."""
    compile: bool = False
    """Compile the network (torch.compile): minutes before the first step, then faster ones."""
    channels_last: bool = False
    """Keep an image's channels side by side in memory, which many GPUs prefer in a compiled network."""
    seed: int = 0
    """Decides initial weights and every draw of every step."""
    checkpoint_every: int = 20_000
    """Images between checkpoints."""
    keep: int = 2
    """How many checkpoints stay on disk."""
    sample_every: int = 0
    """Images between pictures of 100 samples in the run's folder; 0 for none."""
    log_every: int = 20
    """Steps between points of the loss curve, and lines of metrics.jsonl."""

    def __post_init__(self):
        counts = (
            "T",
            "images",
            "batch",
            "accumulate",
            "ema_half_life",
            "checkpoint_every",
            "keep",
            "log_every",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip_gradient", "ema_ramp", "gamma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("warmup", "seed", "weight_decay", "sample_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout: expected a share in [0, 1], got {self.label_dropout}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.accumulate > 1 and self.batch % self.accumulate:
            raise ValueError(f"accumulate: expected a divisor of batch = {self.batch}, got {self.accumulate}")
        if self.objective == "class":
            self._check_classifier()

    def _check_classifier(self) -> None:
        if self.model.num_classes is None:
            raise ValueError(
                "model.num_classes: expected a number of classes for objective 'class', got None"
            )
        for name, only in (("weighting", "simple"), ("label_dropout", 0.0), ("sample_every", 0)):
            if getattr(self, name) != only:
                raise ValueError(
                    f"{name}: expected {only} for objective 'class', got {getattr(self, name)!r}"
                )

    def make_network(self) -> UNet | NoisyClassifier:
        """The network of this run, with new weights from torch's generator."""
        return (NoisyClassifier if self.objective == "class" else UNet)(self.model)

    def make_schedule(self) -> Schedule:
        """The schedule of this run's T steps."""
        return {"linear": schedules.linear, "cosine": schedules.cosine}[self.schedule](self.T)

    def lr_at(self, images_seen: int) -> float:
        """The learning rate of the update after so many images, 0 or more.

        A straight rise over ``warmup``, Eq. (eq-warm-up), then half a cosine down to 0, Eq. (eq-learning-rate), unless
        ``lr_decay`` is "none".
        """
        if images_seen < self.warmup:
            return self.lr * (images_seen + self.batch) / (self.warmup + self.batch)
        if self.lr_decay == "none":
            return self.lr
        progress = (images_seen - self.warmup) / max(self.images - self.warmup, 1)
        return self.lr / 2 * (1 + math.cos(math.pi * min(progress, 1)))

    def half_life_at(self, images_seen: int) -> float:
        """The average's half-life after so many images, in images, Eq. (eq-ema-ramp): short while the run is young."""
        return min(self.ema_half_life, self.ema_ramp * images_seen)

    def decay_at(self, images_seen: int) -> float:
        """The average's decay in the update that ends there, 2^(-batch / half-life), Eq. (eq-ema-rate).

        images_seen: 1 or more; before the first image there is nothing to average.
        """
        return 2 ** (-self.batch / self.half_life_at(images_seen))

    def draw_times(self, schedule: Schedule, n: int) -> Tensor:
        """n steps t of 1..T, exactly those that sampling visits, from torch's generator, (n,) int64 on the CPU.

        "middle": ⌈T u⌉ for u = 1 / (1 + e^(-z)) with standard normal z, whose density is Eq. (eq-times-density).
        "stratified": u_i = (u + i/n) mod 1 for one u and i = 0..n-1, each alone uniform, together even: the
        low-discrepancy sampler of Kingma et al. 2021.
        """
        T = schedule.T
        if self.times == "uniform":
            return torch.randint(1, T + 1, (n,))
        if self.times == "stratified":
            u = (torch.rand(1, dtype=torch.float64) + torch.arange(n, dtype=torch.float64) / n) % 1
            return (u * T).floor().long() + 1
        return (torch.sigmoid(torch.randn(n)) * T).ceil().long().clamp(1, T)

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict, source: Path | str = "config") -> TrainConfig:
        """The inverse of ``to_dict``. Raises ValueError, naming source, for fields that are unknown or do not fit.

        Fields that are missing, as they did not exist when source was written, get their defaults, and a warning.
        """
        try:
            config = cls(**_tuples({**values, "model": UNetConfig(**_tuples(values["model"]))}))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{source}: its config does not fit this version: {error}") from None
        if new := _flat(config.to_dict()).keys() - _flat(values).keys():
            fields = ", ".join(f"{name} = {_flat(config.to_dict())[name]}" for name in sorted(new))
            warnings.warn(f"{source}: written by an earlier version; taken as {fields}", stacklevel=3)
        return config

    def differences(self, other: TrainConfig) -> str:
        """The fields in which other is another run, as "name: mine, not theirs"; empty when they are the same run.

        Fields that only say how it is computed, or how it is recorded, may differ.
        """
        mine, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        decisive = [name for name in mine if name not in _CHANGEABLE]
        return "; ".join(f"{k}: {mine[k]}, not {theirs[k]}" for k in decisive if mine[k] != theirs[k])


def mnist5k() -> TrainConfig:
    """Readable digits in some three minutes on two CPU cores: class-conditional, v objective."""
    return TrainConfig(sample_every=25_000)


def mnist5k_cosine() -> TrainConfig:
    """Better digits for half as much time again: cosine schedule, pixels not folded; the benchmarks' best."""
    model = UNetConfig(patch=1, width=16, multipliers=(1, 2, 4))
    return replace(mnist5k(), model=model, schedule="cosine")


def mnist5k_gpu() -> TrainConfig:
    """The same digits with 24 times the weights (17.2 million) and nearly 30 times the images; for a GPU."""
    model = UNetConfig(width=128, multipliers=(1, 2), blocks=2, attention=(7,), dropout=0.1)
    return TrainConfig(
        model=model,
        images=2_000_000,
        batch=256,
        lr=1e-3,
        warmup=50_000,
        ema_half_life=50_000,
        checkpoint_every=200_000,
        sample_every=200_000,
    )


def cifar10() -> TrainConfig:
    """DDPM's CIFAR-10 run: 35.7 million weights, 800,000 steps of 128 images, no classes; for a GPU.

    Ho et al. 2020, appendix B, and their code: ε objective, even steps, Adam at a constant 2e-4 after 5,000 steps,
    gradients clipped to 1, flips, dropout, and an average whose decay of 0.9999 a step is a half-life of
    -128 log(2) / log(0.9999) images. Early on it is shorter here, as in every run.
    """
    batch = 128
    return TrainConfig(
        data="cifar10",
        augment="flip",
        model=paper(),
        objective="eps",
        times="uniform",
        images=800_000 * batch,
        batch=batch,
        lr=2e-4,
        warmup=5_000 * batch,
        lr_decay="none",
        adam_betas=(0.9, 0.999),
        ema_half_life=round(-batch * math.log(2) / math.log(0.9999)),
        checkpoint_every=5_000 * batch,
        sample_every=20_000 * batch,
        log_every=100,
    )


def mnist5k_classifier() -> TrainConfig:
    """The class of noisy digits, for guidance: some minutes of work for a CPU."""
    return TrainConfig(
        objective="class",
        augment="affine",
        model=UNetConfig(width=24, dropout=0.2),
        times="stratified",
        images=300_000,
        batch=50,
        lr=2e-3,
        warmup=10_000,
        weight_decay=0.05,
        label_dropout=0.0,
        ema_half_life=10_000,
        checkpoint_every=50_000,
    )


def cifar10_classifier() -> TrainConfig:
    """The class of noisy CIFAR-10 images, by the way down of DDPM's network at half its width; for a GPU."""
    model = replace(paper(10), width=64, scale_shift=True)
    return TrainConfig(
        data="cifar10",
        objective="class",
        augment="flip",
        model=model,
        times="stratified",
        images=20_000_000,
        batch=256,
        lr=3e-4,
        warmup=200_000,
        weight_decay=0.05,
        label_dropout=0.0,
        ema_half_life=200_000,
        checkpoint_every=1_000_000,
    )


PRESETS = {
    "mnist5k": mnist5k,
    "mnist5k-cosine": mnist5k_cosine,
    "mnist5k-gpu": mnist5k_gpu,
    "cifar10": cifar10,
}
CLASSIFIERS = {"mnist5k": mnist5k_classifier, "cifar10": cifar10_classifier}


def profile(device: torch.device | str) -> TrainConfig:
    """What the chapters train on this device: the full configuration on CUDA, the embedded default elsewhere."""
    return mnist5k_gpu() if torch.device(device).type == "cuda" else mnist5k()


_CHOICES = {
    "augment": ("none", "flip", "affine"),
    "schedule": ("linear", "cosine"),
    "objective": ("eps", "x0", "v", "class"),
    "times": ("uniform", "middle", "stratified"),
    "weighting": ("simple", "bound", "min-snr"),
    "lr_decay": ("cosine", "none"),
    "precision": ("auto", "fp32", "bf16"),
}
_COMPUTING = ("accumulate", "precision", "tf32", "compile", "channels_last")
_RECORDING = ("checkpoint_every", "keep", "sample_every", "log_every")
_CHANGEABLE = (*_COMPUTING, *_RECORDING)


def _tuples(values: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
