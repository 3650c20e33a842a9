"""What the timed benchmarks share: interleaved repeats, medians with intervals, the machine's name, plain tables.

Calls are timed in turn, round after round, so that whatever else slows the machine slows them all; ratios are taken
within a round. An interval holds the median in 95 of 100 such runs, whatever the law of the times.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from ddpm_lib.checkpoint import write_atomic
from ddpm_lib.metrics.intervals import median_interval

Flag = tyro.conf.FlagCreatePairsOff[bool]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Measuring:
    """What the timed benchmarks can be told."""

    repeats: int = 15
    """Rounds; the table shows medians over them."""
    threads: int = torch.get_num_threads()
    """CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to compute."""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu counts the seconds that this program computed, all threads together: for a machine that is not quiet."""
    json: Path | None = None
    """Also write the results to this file."""
    quick: Flag = False
    """Small shapes and few rounds: shows that all of it runs, and nothing else."""

    def __post_init__(self):
        for name in ("repeats", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.clock == "cpu" and self.device != "cpu":
            raise ValueError(f"clock: 'cpu' says nothing about device {self.device!r}")

    @property
    def rounds(self) -> int:
        return min(self.repeats, 3) if self.quick else self.repeats

    def begin(self) -> dict:
        """Set the threads; returns what the results must say of the machine, which is printed too."""
        torch.set_num_threads(self.threads)
        about = machine(self.device) | {"clock": self.clock, "rounds": self.rounds, "quick": self.quick}
        print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
        return about

    def finish(self, results: dict) -> dict:
        """Write the results where that was asked for."""
        if self.json is not None:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.json, json.dumps(results, indent=1).encode())
        return results

    def seconds(self, calls: dict[str, Callable[[], object]], warm_up: int = 2) -> dict[str, list[float]]:
        """How long each call takes, once a round."""
        return interleaved(calls, self.rounds, warm_up, CLOCKS[self.clock], synchronizer(self.device))


def interleaved(
    calls: dict[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
    wait: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each call, a list with one entry a round; the calls take turns. wait: for work still under way."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wait()
            begun = clock()
            call()
            wait()
            seconds[name].append(clock() - begun)
    return seconds


@dataclass(frozen=True)
class Median:
    """The median of n values and an interval about it."""

    value: float
    low: float
    high: float
    n: int

    def show(self, digits: int = 2) -> str:
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def median(values: Sequence[float]) -> Median:
    """The median with its 95 % interval, by the order of the values alone; of few, from the least to the greatest."""
    return Median(*median_interval(torch.tensor(values, dtype=torch.float64)), len(values))


def ratio(above: Sequence[float], below: Sequence[float]) -> Median:
    """The median of the ratios within each round."""
    return median([a / b for a, b in zip(above, below, strict=True)])


def synchronizer(device: str) -> Callable[[], None]:
    """What waits until the device has done all it was asked."""
    return torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None


def machine(device: str = "cpu") -> dict:
    """What computed: processor or GPU, threads, versions, and how busy the machine was already."""
    about = {
        "device": device,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
    about |= {"instructions": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}
    about["python"] = platform.python_version()
    if hasattr(os, "getloadavg"):
        about["load"] = round(os.getloadavg()[0], 1)
    return about


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(rows: Sequence[dict[str, object]]) -> str:
    """Rows as text, a column a key; numbers to the right."""
    names = list(rows[0])
    cells = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    right = [not isinstance(rows[0][name], str) or rows[0][name][:1].isdigit() for name in names]
    return "\n".join(
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )
