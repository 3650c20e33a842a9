"""The training loop, counted in images seen.

Every random draw of a step comes from (seed, step) alone: which images, how they are augmented, which t, the noise and
the dropped labels are drawn for the whole batch, of which each process takes its part; dropout comes from (seed, step,
process, micro-batch). So a run that stops and resumes from a checkpoint is, on a CPU to the bit, the run that never
stopped. (The same number of threads and of processes and the same precision supposed: with others, sums are taken in
another order and rounded elsewhere.)
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddpm_lib import checkpoint, data, plots, samplers
from ddpm_lib._device import has_bf16, moved, tf32
from ddpm_lib._distributed import World, joined, local_device, stop_noted
from ddpm_lib._journal import Records
from ddpm_lib._loading import (
    fill,
    load_denoiser,
    load_noisy_classifier,
    load_pretrained,
    load_pretrained_classifier,
    save_pretrained,
)
from ddpm_lib.bound import simple_loss, training_weight
from ddpm_lib.config import TrainConfig
from ddpm_lib.denoiser import Clipped, NetworkDenoiser
from ddpm_lib.guidance import NoisyClassifier, class_loss

__all__ = [
    "Trainer",
    "draw_key",
    "has_bf16",
    "joined",
    "load_denoiser",
    "load_noisy_classifier",
    "load_pretrained",
    "load_pretrained_classifier",
    "pick_device",
    "save_pretrained",
]


def pick_device(name: str = "auto") -> torch.device:
    """The device of this name; "auto" is CUDA where there is one, else Apple's MPS, else the CPU.

    Of several CUDA devices "cuda" is the first or, in a process that ``torchrun`` started, the one of this process.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(local_device(name))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device: {name!r} is not to be had here: {str(error).splitlines()[0]}") from None
    return device


class Trainer:
    """One training run: the network, its average, the optimiser, and how many images they have seen.

    config: what to train. device: where. images: the data, ``data.load(config.data)`` unless given. world: the
    processes that share the run (``joined``), this one alone unless given; each makes a Trainer and calls the same
    methods.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device | str = "cpu",
        images: data.Images | None = None,
        world: World | None = None,
    ):
        self.config, self.device, self.world = config, torch.device(device), world or World()
        self.images = (data.load(config.data) if images is None else images).to(self.device)
        self._check_fit()
        self.schedule = config.make_schedule()
        self.weights = training_weight(config.weighting, config.objective, self.schedule, config.gamma)
        with self._own_randomness():
            torch.manual_seed(draw_key(config.seed, 0))
            self.net = config.make_network().to(self.device, memory_format=self._memory_format)
        self.average = Average(self.net, multi_avg_fn=self._blend)
        self.average.eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(),
            lr=config.lr,
            betas=config.adam_betas,
            weight_decay=config.weight_decay,
            fused=True if self.device.type in ("cuda", "cpu") else None,
        )
        # wrapped networks are for the loss alone: what is saved and averaged is the bare one, under its own names
        self.parallel = self.world.parallel(self.net) if self.world.size > 1 else None
        bare = self.net if self.parallel is None else self.parallel
        self.compiled = torch.compile(bare) if config.compile else None
        self.step = 0
        self.gradient_norm = torch.zeros(())

    @property
    def images_seen(self) -> int:
        """The run's clock."""
        return self.step * self.config.batch

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The averaged network, ready to sample."""
        return NetworkDenoiser(self.average.module, self.schedule, self.config.objective)

    @property
    def classifier(self) -> NoisyClassifier:
        """The averaged network of a classifier's run."""
        return self.average.module

    def train_step(self) -> Tensor:
        """One batch, one update; returns the batch's mean loss, a scalar on the device.

        The gradient is clipped to the length ``clip_gradient``, Eq. (eq-clip); ``gradient_norm`` is its length before.
        """
        config = self.config
        torch.manual_seed(draw_key(config.seed, self.step + 1))
        parts = self._draw()
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr_at(self.images_seen)
        self.optimizer.zero_grad(set_to_none=True)
        with tf32(self.device, self.config.tf32):
            losses = [self._backward(index, *part) for index, part in enumerate(parts)]
        self.gradient_norm = nn.utils.clip_grad_norm_(self.net.parameters(), config.clip_gradient)
        self.optimizer.step()
        self.step += 1
        self.average.update_parameters(self.net)
        return self.world.mean(torch.stack(losses).sum())

    def fit(self, out: Path | str | None = None, progress: bool = True) -> list[tuple[int, float]]:
        """Train to the end of the run; returns the loss curve as (images seen, mean loss since the last point).

        out: a folder for checkpoints, written every ``checkpoint_every`` images, at the end and on Ctrl-C or SIGTERM,
        which stops after the current step and raises KeyboardInterrupt; for ``metrics.jsonl``, the curve; and for
        pictures of samples. Raises ValueError where a new run would begin in another one's folder, FloatingPointError,
        naming step and learning rate, when loss or gradient is no longer finite; the last checkpoint stays.
        """
        config, world = self.config, self.world
        if out is not None and self.step == 0 and checkpoint.exists(out):
            raise ValueError(f"out: {out} already holds a run; restore it to go on, or name another folder")
        self.net.train()
        folder = out if world.first else None
        records = Records(config.images, self.images_seen, folder, progress and world.first)
        with self._own_randomness(), stop_noted(world.size > 1) as asked, records:
            while self.images_seen < config.images:
                lr = config.lr_at(self.images_seen)
                loss = self.train_step()
                records.add(self.step, lr, loss, self.gradient_norm)
                stop, done = world.greatest(asked()), self.images_seen >= config.images
                save = out is not None and (bool(stop) or done or self._is_due(config.checkpoint_every))
                if save or stop or done or self.step % config.log_every == 0:
                    records.point(self.images_seen)
                if save:
                    self.save(out)
                if stop and not done:
                    raise KeyboardInterrupt(stop)
                if out is not None and config.sample_every and self._is_due(config.sample_every):
                    self.save_samples(out)
        return records.curve

    def save(self, out: Path | str) -> None:
        """Write a checkpoint of everything the run needs to go on; the first process does, the others wait.

        Raises FloatingPointError where a weight is not finite, and writes nothing.
        """
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        if broken := [name for name, value in tensors.items() if not value.isfinite().all()]:
            lr = self.optimizer.param_groups[0]["lr"]
            raise FloatingPointError(
                f"not saved at step {self.step}, learning rate {lr:.2e}: {broken[0]} is not finite, nor are "
                f"{len(broken) - 1} other tensors"
            )
        if self.world.first:
            meta = {"config": self.config.to_dict(), "images_seen": self.images_seen}
            meta["data"] = self.images.digest
            checkpoint.save(out, self.step, tensors, meta, self.config.keep)
        self.world.follow()

    def restore(self, out: Path | str) -> None:
        """Go on from the newest whole checkpoint in out; all processes read it, so they must see the same folder.

        Raises ValueError where its run was another one, or its images had another shape, other classes or labels.
        """
        tensors, meta, path = checkpoint.load_newest(out)
        stored = TrainConfig.from_dict(meta.get("config"), path)
        if changed := stored.differences(self.config):
            raise ValueError(f"{path} belongs to another run: {changed}")
        if meta.get("data", self.images.digest) != self.images.digest:
            raise ValueError(f"{path}: the run began with other images than {self.config.data!r} has now")
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
        fill(self.net, tensors, "net.", path)
        fill(self.average, tensors, "average.", path)
        for index, p in enumerate(self.net.parameters()):
            for key, value in state.get(index, {}).items():
                if value.shape == p.shape:  # in the parameter's own layout, as the fused optimiser supposes
                    state[index][key] = torch.empty_like(p).copy_(value)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step = meta["images_seen"] // self.config.batch
        self.world.wait()
        if self.world.greatest(self.step) != self.step:
            raise ValueError(f"{path}: another process of this run found a later checkpoint")

    def save_samples(self, out: Path | str, n: int = 100) -> None:
        """Write ``samples-....png`` of n images from the average, the classes in turn, the same seeds each time."""
        config = self.config
        if self.world.first:
            labels = None
            if config.model.num_classes is not None:
                labels = torch.arange(n, device=self.device) % config.model.num_classes
            shape = (n, config.model.in_channels, config.model.image_size, config.model.image_size)
            denoiser, steps = Clipped(self.denoiser.given(labels)), min(50, config.T)
            with tf32(self.device, config.tf32), self._autocast():
                x = samplers.sample(denoiser, shape, samplers.ancestral, steps=steps, device=self.device)
            plots.save_grid(x, Path(out) / f"samples-{self.images_seen:09d}.png")
        self.world.follow()

    def _draw(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """This process's part of the step's batch in micro-batches: x_0, t, ε and labels, which may be None.

        What belongs to an image is drawn for all of the batch, so it does not depend on how the batch is shared. Every
        image is seen once an epoch, in an order drawn from (seed, epoch); a batch may need two epochs'.
        """
        config, n, mine = self.config, len(self.images), self.world.part(self.config.batch)
        places = range(self.step * config.batch, (self.step + 1) * config.batch)
        order = [_order(config.seed, place // n, n)[place % n] for place in places[mine]]
        pixels, y = self.images.batch(torch.tensor(order), self.device)
        if config.model.num_classes is None:
            y = None
        else:
            dropped = torch.rand(config.batch) < config.label_dropout
            y = y.masked_fill(moved(dropped[mine], self.device), config.model.num_classes)
        t = config.draw_times(self.schedule, config.batch)[mine]
        eps = torch.randn(config.batch, *pixels.shape[1:], device=self.device)[mine]
        changes = data.draw_augmentation(config.augment, config.batch)[mine]
        x0 = data.augment(data.to_unit(pixels), config.augment, changes)
        x0, eps = (x.to(memory_format=self._memory_format) for x in (x0, eps))
        parts = [whole.chunk(config.accumulate) for whole in (x0, t, eps)]
        return list(
            zip(*parts, [None] * config.accumulate if y is None else y.chunk(config.accumulate), strict=True)
        )

    def _backward(self, index: int, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor | None) -> Tensor:
        """Add the gradient of micro-batch number index; returns its share of the loss.

        Processes exchange their gradients in the last one alone.
        """
        config, world = self.config, self.world
        torch.manual_seed(draw_key(config.seed, self.step + 1, 1 + world.rank, 1 + index))  # for dropout
        last = index == config.accumulate - 1
        with nullcontext() if last or self.parallel is None else self.parallel.no_sync():
            with self._autocast():
                wrapped = self.parallel if self.compiled is None else self.compiled
                net = self.net if wrapped is None else wrapped
                if config.objective == "class":
                    losses = class_loss(net, self.schedule, x0, t, eps, y)
                else:
                    losses = simple_loss(net, self.schedule, config.objective, x0, t, eps, y)
            loss = (losses * self.schedule.at(self.weights, t, losses)).mean() / config.accumulate
            loss.backward()
        return loss.detach()

    def _blend(self, average: list[Tensor], current: list[Tensor], _) -> None:
        """The exponential average's update, Eq. (eq-ema), in place, with the decay of this moment."""
        torch._foreach_lerp_(average, current, 1 - self.config.decay_at(self.images_seen))

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.config.channels_last else torch.contiguous_format

    def _own_randomness(self):
        """Give torch's generators back as they were."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def _autocast(self):
        wanted = self.config.precision
        if wanted == "fp32" or (wanted == "auto" and not has_bf16(self.device)):
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _is_due(self, every: int) -> bool:
        return self.images_seen // every > (self.images_seen - self.config.batch) // every

    def _check_fit(self) -> None:
        config, shares = self.config, self.world.size * self.config.accumulate
        model, (_, channels, *size) = config.model, self.images.pixels.shape
        classes = len(self.images.classes)
        if (channels, *size) != (model.in_channels, model.image_size, model.image_size):
            raise ValueError(
                f"model: expected a network for the data's {channels}×{size[0]}×{size[1]} images, "
                f"got one for {model.in_channels}×{model.image_size}×{model.image_size}"
            )
        if model.num_classes not in (None, classes):
            raise ValueError(
                f"model.num_classes: expected None or the data's {classes}, got {model.num_classes}"
            )
        if config.batch % shares:
            raise ValueError(
                f"batch: expected a multiple of {shares}, {self.world.size} processes with {config.accumulate} "
                f"micro-batches each, got {config.batch}"
            )


class Average(AveragedModel):
    """Torch's average of a network's weights, whose count of updates stays where it is.

    Torch sends it to the device each time, so the CPU would wait there for the whole step.
    """

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the network's present weights in; the first ones are copied."""
        kept, new = list(self.module.parameters()), list(model.parameters())
        if self.n_averaged == 0:
            torch._foreach_copy_(kept, new)
        else:
            self.multi_avg_fn(kept, new, None)
        for buffer, now in zip(self.module.buffers(), model.buffers(), strict=True):
            buffer.copy_(now)
        self.n_averaged += 1


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> list[int]:
    """The order of n images in this epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n).tolist()


def draw_key(seed: int, step: int, *place: int) -> int:
    """A 64-bit seed for step of the run with this seed; step 0 is the network's initialisation.

    place: what within a step has draws of its own, numbers from 1 (a trailing 0 would change nothing).
    """
    return int(np.random.SeedSequence([seed, step, *place]).generate_state(1, np.uint64)[0])
