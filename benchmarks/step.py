"""One training step: this library's network beside diffusers', same architecture, same weights, same optimiser.

    python -m benchmarks step                  fp32 and bf16, as the networks are
    python -m benchmarks step --compile        both through torch.compile too; how long that takes is said apart
    python -m benchmarks step --loop           a step of each package's own training loop too
    python -m benchmarks step --only paper     those networks whose name has "paper" in it

A step is forward, loss, backward and the optimiser's update. Both answer the same to 1e-5 before anything is timed.
Memory is that of one process each: the highest point over five steps, above what it was before there was a network.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import nn

from benchmarks import loops, timing
from benchmarks.pair import Peer, batch, pair, training_step
from ddpm_lib import unet
from ddpm_lib.unet import UNet, UNetConfig

TINY = UNetConfig(width=16, multipliers=(1, 2))
# name: configuration, images a step
NETWORKS = {
    "small 28×28×1": (unet.small(), 16),
    "small, pixels not folded": (replace(unet.small(), patch=1), 16),
    "paper 32×32×3": (unet.paper(), 8),
}


@dataclass(frozen=True)
class Options(timing.Measuring):
    """One training step beside diffusers'."""

    only: str = ""
    """Part of the names of the networks to measure."""
    compile: timing.Flag = False
    """Also through torch.compile."""
    loop: timing.Flag = False
    """Also a step of each package's own training loop: with its optimiser, average of the weights and drawing."""
    memory: tyro.conf.FlagConversionOff[bool] = True
    """Also measure memory."""


def main(argv: list[str] | None = None) -> dict:
    """Run the benchmark; prints the table and returns what it measured."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks step")
    networks = {"tiny": (TINY, 4)} if options.quick else NETWORKS
    chosen = {name: what for name, what in networks.items() if options.only in name}
    if not chosen:
        raise ValueError(
            f"only: no network has {options.only!r} in its name; there are: {', '.join(networks)}"
        )
    results = {"about": options.begin(), "rows": []}
    for name, (config, n) in chosen.items():
        for precision in ("fp32", "bf16"):
            for mode in ("eager", *["compiled"] * options.compile, *["loop"] * options.loop):
                row = {"network": name, "batch": n, "precision": precision, "mode": mode}
                results["rows"].append(row | measure(config, n, precision, mode, options))
                print(".", end="", flush=True)
    print("\n" + as_text(results["rows"]))
    return options.finish(results)


def measure(config: UNetConfig, n: int, precision: str, mode: str, options: Options) -> dict:
    """Both networks' seconds a step in turn, their ratio and, where asked for, their memory."""
    peer, ours = (net.to(options.device) for net in pair(config))
    difference = largest_difference(peer, ours, config, options.device)
    if (
        not difference < 1e-4
    ):  # the sum of many rounded terms; with TF32 more, but that is off unless asked for
        raise RuntimeError(f"the two networks differ by {difference:.1e}: they are not the same network")
    row = {"difference": difference}
    if mode == "loop":
        steps = loops.steps(peer, ours, config, n, precision, options.device)
    else:
        for net in (peer, ours) if mode == "compiled" else ():
            net.compile()
        nets = {"peer": peer, "ours": ours}
        steps = {name: training_step(net, config, n, precision, options.device) for name, net in nets.items()}
    for name, step in steps.items():
        begun = time.perf_counter()
        step()
        row[f"{name}_first_step"] = time.perf_counter() - begun
    seconds = options.seconds(steps)
    for name, values in seconds.items():
        row[f"{name}_seconds"] = values
        row[f"{name}_images_per_second"] = n / timing.median(values).value
    row["ratio"] = vars(timing.ratio(seconds["peer"], seconds["ours"]))
    if options.memory and mode == "eager":
        for name in steps:
            row[f"{name}_bytes"] = peak_memory(name, config, n, precision, options)
    return row


@torch.no_grad()
def largest_difference(peer: nn.Module, ours: nn.Module, config: UNetConfig, device: str) -> float:
    """How far the answers are apart, dropout off."""
    x, t, y = batch(config, 2, device)
    answers = [net.eval()(x, t, y) for net in (peer, ours)]
    for net in (peer, ours):
        net.train()
    return (answers[0] - answers[1]).abs().max().item()


def peak_memory(which: str, config: UNetConfig, n: int, precision: str, options: Options) -> int:
    """The memory that training takes at most, in bytes, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (which, config, n, precision, options.device, options.threads))


def _peak_memory(which: str, config: UNetConfig, n: int, precision: str, device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    training_step(nn.Linear(1, 1), config, 1, "fp32", device)  # what the first optimiser loads is nobody's
    if which == "peer":
        Peer(TINY)  # nor is what importing the package takes
    before = _held(device)
    net = Peer(config) if which == "peer" else UNet(config)
    step = training_step(net.train().to(device), config, n, precision, device)
    for _ in range(5):
        step()
    return _held(device, at_most=True) - before


def _held(device: str, at_most: bool = False) -> int:
    """The bytes that this process holds on the device now, or held at most."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() if at_most else torch.cuda.memory_allocated()
    key = "VmHWM:" if at_most else "VmRSS:"
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def as_text(rows: list[dict]) -> str:
    """The table: images a second of both, their ratio with its interval, memory of both."""
    lines = []
    for row in rows:
        found = timing.Median(**row["ratio"])
        line = {
            "network": row["network"],
            "precision": row["precision"],
            "mode": row["mode"],
            "batch": row["batch"],
            "diffusers img/s": f"{row['peer_images_per_second']:.1f}",
            "ours img/s": f"{row['ours_images_per_second']:.1f}",
            "ratio [95 %]": found.show(),
            "first step, s": f"{row['peer_first_step']:.1f} / {row['ours_first_step']:.1f}",
        }
        taken = [row.get(f"{name}_bytes") for name in ("peer", "ours")]
        line["memory, MB"] = "" if None in taken else " / ".join(f"{value / 1e6:.0f}" for value in taken)
        lines.append(line)
    return timing.table(lines)
