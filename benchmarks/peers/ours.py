"""Our own contestants: the preset ``mnist5k`` and, as best, the one that beats it in this measure."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.peers import Contestant, Trained
from benchmarks.peers.loop import STEPS, chunks, parameters
from ddpm_lib import samplers, training
from ddpm_lib.config import TrainConfig, mnist5k, mnist5k_cosine
from ddpm_lib.data import Images, to_bytes
from ddpm_lib.denoiser import Clipped


def contestants() -> list[Contestant]:
    made = []
    for kind, config in (("ours", mnist5k_cosine()), ("README", mnist5k())):
        for conditional in (True, False):
            run = partial(train, config, conditional)
            made.append(Contestant("ddpm_lib", "ddpm_lib", kind, conditional, run))
    return made


def train(config: TrainConfig, conditional: bool, images: Images, seconds: float, seed: int) -> Trained:
    model = config.model if conditional else replace(config.model, num_classes=None)
    return _train(replace(config, seed=seed, model=model), images, seconds)


def _train(config: TrainConfig, images: Images, seconds: float) -> Trained:
    """Against the clock, as the peers' loop; the learning rate falls along the length that the speed promises."""
    begun = time.perf_counter()
    trainer = training.Trainer(config, "cpu", images)
    trainer.net.train()
    while (gone := time.perf_counter() - begun) < seconds or trainer.step == 0:
        if trainer.step and gone > seconds / 100:
            trainer.config = replace(config, images=math.ceil(trainer.images_seen * seconds / gone))
        trainer.train_step()
    denoiser = trainer.denoiser

    def sample(n: int, labels: Tensor | None, seed: int) -> Tensor:
        made = []
        for part, (count, y) in enumerate(chunks(n, labels)):
            asked, shape = Clipped(denoiser.given(y)), (count, *images.pixels.shape[1:])
            made.append(samplers.sample(asked, shape, samplers.ddim, steps=STEPS, seed=1000 * seed + part))
        return to_bytes(torch.cat(made))

    return Trained(sample, parameters(trainer.net), trainer.images_seen)
