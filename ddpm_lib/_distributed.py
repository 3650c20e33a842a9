"""The processes that share a run, as ``torchrun`` starts them: one a device, each with its part of every batch.

Gradients travel on the devices' own network (nccl, or gloo on the CPU), words over gloo, which notices at once when a
process dies. Who does not answer within ``PATIENCE``, or ``FIRST_COMPILATION`` where the network is compiled, is taken
for dead, but when the others wait for one that writes or reads a file. For a run in one process nothing here does
anything.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(seconds=45)
FIRST_COMPILATION = timedelta(minutes=20)


@dataclass(frozen=True)
class World:
    """Which of how many processes this is. gradients, words: the groups for these, where there are several."""

    rank: int = 0
    size: int = 1
    gradients: dist.ProcessGroup | None = None
    words: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """This process's part of the n images of a batch; n is a multiple of size."""
        share = n // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def parallel(self, net: nn.Module) -> nn.Module:
        """The network with its gradients averaged over the processes; it starts with the first one's weights."""
        if self.size == 1:
            return net
        self.wait()  # others may have had data to fetch
        return nn.parallel.DistributedDataParallel(net, process_group=self.gradients)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a value over the processes."""
        if self.size > 1:
            dist.all_reduce(value, group=self.gradients)
            value /= self.size
        return value

    def greatest(self, value: int) -> int:
        """The greatest of the processes' values."""
        if self.size == 1:
            return value
        told = torch.tensor(value)
        dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self.words)
        return int(told)

    def wait(self) -> None:
        """Go on when all are here, however long it takes."""
        if self.size > 1:
            dist.barrier()

    def follow(self) -> None:
        """Go on when the first one is here, however long that takes; it waits for the others no longer than usual."""
        if self.size > 1:
            dist.monitored_barrier(timeout=PATIENCE)

    @contextmanager
    def _lost_peer_named(self) -> Iterator[None]:
        """ConnectionError in plain words where the others are gone, or silent for too long."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not re.search(
                "gloo|nccl|barrier|connection|timed? ?out", str(error), re.IGNORECASE
            ):
                raise
            raise ConnectionError(
                f"one of the {self.size} processes of this run is gone or does not answer; "
                f"go on from the last checkpoint, if there is one, with --resume ({str(error).splitlines()[0]})"
            ) from error


@contextmanager
def joined(device: torch.device, compiling: bool = False) -> Iterator[World]:
    """The world this process was started in: that of ``torchrun``, or itself alone.

    device: where it computes, which decides how gradients travel. compiling: the first step may take minutes longer in
    one process than in another. Raises ConnectionError where the others can't be found, or are lost on the way.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        yield World()
        return
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu or cuda, over which processes can share a run, got {device}")
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", device.index or 0))
        together = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])) > 1
        if together and device.index not in (None, local) and torch.cuda.device_count() > 1:
            raise ValueError(
                f"device: expected cuda, of which each process takes one of its own, got {device}"
            )
        own = int(os.environ["RANK"]) % torch.cuda.device_count() if device.index is None else device.index
        torch.cuda.set_device(own)
    patience = FIRST_COMPILATION if compiling else PATIENCE
    try:
        dist.init_process_group("gloo", timeout=timedelta(hours=2))
        backend = "nccl" if device.type == "cuda" else "gloo"
        gradients = dist.new_group(backend=backend, timeout=patience)
        words = dist.new_group(backend="gloo", timeout=patience)
    except RuntimeError as error:
        raise ConnectionError(f"the processes of this run do not find each other: {error}") from None
    world, failed = World(dist.get_rank(), dist.get_world_size(), gradients, words), False
    try:
        with world._lost_peer_named():
            yield world
    except Exception:
        failed = True
        raise
    finally:
        if not failed:  # else this might wait for those who are gone
            dist.destroy_process_group()


def local_device(name: str) -> str:
    """ "cuda" as the device of this process: the first to the first process of a machine, and so on."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and "LOCAL_RANK" in os.environ else name


@contextmanager
def stop_noted(repeated: bool) -> Iterator[Callable[[], int]]:
    """A function that tells whether Ctrl-C or SIGTERM has come, as its number, else 0; so none cuts a step in half.

    A second signal acts at once, unless it is repeated, as by ``torchrun``, which kills by itself what does not end.
    """
    noted = 0
    if threading.current_thread() is not threading.main_thread():
        yield lambda: noted
        return

    def note(signum, frame):
        nonlocal noted
        noted = signum
        if not repeated:
            restore()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: noted
    finally:
        restore()
