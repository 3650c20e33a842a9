"""The training loop, counted in images seen.

Every random draw of a step (which images, which t, the noise, the dropped labels, dropout) comes from (seed, step)
alone. So a run that stops and resumes from a checkpoint is, on a CPU to the bit, the run that never stopped. (The same
number of threads and the same precision supposed: with others, sums are taken in another order and rounded elsewhere.)
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ddpm_lib import checkpoint, data
from ddpm_lib.bound import simple_loss
from ddpm_lib.config import TrainConfig
from ddpm_lib.denoiser import NetworkDenoiser
from ddpm_lib.unet import UNet


def pick_device(name: str = "auto") -> torch.device:
    """The device of this name; "auto" is CUDA where there is one, else Apple's MPS, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device: {name!r} is not to be had here: {str(error).splitlines()[0]}") from None
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself, so that autocast to it saves time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class Trainer:
    """One training run: the network, its average, the optimiser, and how many images they have seen.

    config: what to train. device: where. images: the data, ``data.load(config.data)`` unless given.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device | str = "cpu", images: data.Images | None = None
    ):
        self.config, self.device = config, torch.device(device)
        self.images = (data.load(config.data) if images is None else images).to(self.device)
        self._check_fit()
        self.schedule = config.make_schedule()
        with torch.random.fork_rng():
            torch.manual_seed(draw_key(config.seed, 0))
            self.net = UNet(config.model).to(self.device)
        self.average = AveragedModel(self.net, multi_avg_fn=self._blend)
        self.average.eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(),
            lr=config.lr,
            betas=config.adam_betas,
            weight_decay=config.weight_decay,
            fused=True if self.device.type in ("cuda", "cpu") else None,
        )
        self.step = 0

    @property
    def images_seen(self) -> int:
        """The run's clock."""
        return self.step * self.config.batch

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The averaged network, ready to sample."""
        return NetworkDenoiser(self.average.module, self.schedule, self.config.objective)

    def train_step(self) -> Tensor:
        """One batch, one update; returns the batch's mean loss, a scalar on the device.

        The gradient is clipped to the length ``clip_gradient``, Eq. (eq-clip).
        """
        config = self.config
        torch.manual_seed(draw_key(config.seed, self.step + 1))
        x0, y = self._batch()
        t = config.draw_times(self.schedule, len(x0))
        eps = torch.randn_like(x0)
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr_at(self.images_seen)
        with self._autocast():
            loss = simple_loss(self.net, self.schedule, config.objective, x0, t, eps, y).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), config.clip_gradient)
        self.optimizer.step()
        self.step += 1
        self.average.update_parameters(self.net)
        return loss.detach()

    def fit(self, out: Path | str | None = None, progress: bool = True) -> list[tuple[int, float]]:
        """Train to the end of the run; returns the loss curve as (images seen, mean loss since the last point).

        out: a folder for checkpoints, written every ``checkpoint_every`` images, at the end and on Ctrl-C, which
        stops after the current step and raises KeyboardInterrupt. Raises FloatingPointError when the loss is no
        longer finite; the last checkpoint stays.
        """
        config, curve, losses = self.config, [], []
        self.net.train()
        start = {"total": config.images, "initial": self.images_seen, "mininterval": 1}
        bar = tqdm(**start, unit="img", desc="training", disable=not progress)
        with torch.random.fork_rng(), _interrupt_at_step_end() as interrupted, bar:
            while self.images_seen < config.images:
                losses.append(self.train_step())
                done, stop = self.images_seen >= config.images, interrupted.is_set()
                due = out is not None and (done or stop or self._is_due(config.checkpoint_every))
                if len(losses) == config.log_every or due or done or stop:
                    curve.append((self.images_seen, self._mean(losses)))
                    bar.update(min(self.images_seen, config.images) - bar.n)
                    bar.set_postfix(loss=f"{curve[-1][1]:.4f}")
                    losses = []
                if due:
                    self.save(out)
                if stop and not done:
                    raise KeyboardInterrupt
        return curve

    def save(self, out: Path | str) -> Path:
        """Write a checkpoint of everything the run needs to go on."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        meta = {"config": self.config.to_dict(), "images_seen": self.images_seen}
        return checkpoint.save(out, self.step, tensors, meta, self.config.keep)

    def restore(self, out: Path | str) -> None:
        """Go on from the newest whole checkpoint in out. Raises ValueError where its run was another one."""
        tensors, meta, path = checkpoint.load_newest(out)
        stored = TrainConfig.from_dict(meta.get("config"), path)
        if changed := stored.differences(self.config):
            raise ValueError(f"{path} belongs to another run: {changed}")
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
        fill(self.net, tensors, "net.", path)
        fill(self.average, tensors, "average.", path)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step = meta["images_seen"] // self.config.batch

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """The images and labels of this step: every image once an epoch, in an order drawn from (seed, epoch)."""
        config, n = self.config, len(self.images)
        places = range(self.step * config.batch, (self.step + 1) * config.batch)
        order = [_order(config.seed, place // n, n)[place % n] for place in places]
        index = torch.tensor(order, device=self.device)
        y = None
        if config.model.num_classes is not None:
            dropped = torch.rand(config.batch) < config.label_dropout
            y = self.images.labels[index].masked_fill(dropped.to(self.device), config.model.num_classes)
        return data.to_unit(self.images.pixels[index]), y

    def _blend(self, average: list[Tensor], current: list[Tensor], _) -> None:
        """The exponential average's update, Eq. (eq-ema), in place, with the decay of this moment."""
        torch._foreach_lerp_(average, current, 1 - self.config.decay_at(self.images_seen))

    def _autocast(self):
        wanted = self.config.precision
        if wanted == "fp32" or (wanted == "auto" and not has_bf16(self.device)):
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _mean(self, losses: list[Tensor]) -> float:
        value = torch.stack(losses).mean().item()
        if not np.isfinite(value):
            lr = self.optimizer.param_groups[0]["lr"]
            raise FloatingPointError(f"the loss is {value} at step {self.step}, learning rate {lr:.2e}")
        return value

    def _is_due(self, every: int) -> bool:
        return self.images_seen // every > (self.images_seen - self.config.batch) // every

    def _check_fit(self) -> None:
        model, (_, channels, *size), classes = (
            self.config.model,
            self.images.pixels.shape,
            len(self.images.classes),
        )
        if (channels, *size) != (model.in_channels, model.image_size, model.image_size):
            raise ValueError(
                f"model: expected a network for the data's {channels}×{size[0]}×{size[1]} images, "
                f"got one for {model.in_channels}×{model.image_size}×{model.image_size}"
            )
        if model.num_classes not in (None, classes):
            raise ValueError(
                f"model.num_classes: expected None or the data's {classes}, got {model.num_classes}"
            )


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> list[int]:
    """The order of n images in this epoch; a batch may need two epochs'."""
    return np.random.default_rng([seed, epoch]).permutation(n).tolist()


def draw_key(seed: int, step: int) -> int:
    """A 64-bit seed for step of the run with this seed; step 0 is the network's initialisation."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])


def fill(module: nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    """Load the tensors whose names start with prefix into the module; ValueError, naming path, if they do not fit."""
    chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(chosen)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} does not fit its own config: {error}") from None


def load_denoiser(run: Path | str, device: torch.device | str = "cpu") -> tuple[NetworkDenoiser, TrainConfig]:
    """The averaged network of a run's newest whole checkpoint, ready to sample, and the run's config."""
    if not Path(run).is_dir():
        raise ValueError(f"run: no folder {run}")
    tensors, meta, path = checkpoint.load_newest(run)
    config = TrainConfig.from_dict(meta.get("config"), path)
    net = UNet(config.model).to(device)
    fill(net, tensors, "average.module.", path)
    return NetworkDenoiser(net.eval().requires_grad_(False), config.make_schedule(), config.objective), config


@contextmanager
def _interrupt_at_step_end() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag, so that it can't cut a step in half; the second acts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(signum, frame):
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
