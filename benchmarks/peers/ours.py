"""Our own contestants: the preset ``mnist5k`` as it ships, and the same without classes."""

from __future__ import annotations

import time
from dataclasses import replace

from torch import Tensor

from benchmarks.peers import Contestant, Trained
from benchmarks.peers.loop import STEPS, parameters
from ddpm_lib import samplers, training
from ddpm_lib.config import TrainConfig, mnist5k
from ddpm_lib.data import Images, to_bytes
from ddpm_lib.denoiser import Clipped


def contestants() -> list[Contestant]:
    return [
        Contestant("ddpm_lib, mnist5k", "ddpm_lib", "ours", True, train),
        Contestant("ddpm_lib, mnist5k", "ddpm_lib", "ours", False, train_without_classes),
    ]


def train(images: Images, seconds: float, seed: int) -> Trained:
    return _train(replace(mnist5k(), seed=seed), images, seconds)


def train_without_classes(images: Images, seconds: float, seed: int) -> Trained:
    config = mnist5k()
    return _train(replace(config, seed=seed, model=replace(config.model, num_classes=None)), images, seconds)


def _train(config: TrainConfig, images: Images, seconds: float) -> Trained:
    """The run's length is set from a first try of its speed, which is part of the time."""
    begun = time.perf_counter()
    rate = _images_per_second(config, images, min(10.0, seconds / 10))
    left = seconds - (time.perf_counter() - begun)
    config = replace(config, images=max(int(0.98 * rate * left), config.batch))
    trainer = training.Trainer(config, "cpu", images)
    trainer.fit(progress=False)
    denoiser = trainer.denoiser

    def sample(n: int, labels: Tensor | None, seed: int) -> Tensor:
        shape = (n, *images.pixels.shape[1:])
        asked = Clipped(denoiser.given(labels))
        return to_bytes(samplers.sample(asked, shape, samplers.ddim, steps=STEPS, seed=seed))

    return Trained(sample, parameters(trainer.net), trainer.images_seen)


def _images_per_second(config: TrainConfig, images: Images, seconds: float) -> float:
    """The speed of training steps, after one to warm up."""
    trainer = training.Trainer(config, "cpu", images)
    trainer.train_step()
    begun, seen = time.perf_counter(), trainer.images_seen
    while time.perf_counter() - begun < seconds or trainer.images_seen == seen:
        trainer.train_step()
    return (trainer.images_seen - seen) / (time.perf_counter() - begun)
