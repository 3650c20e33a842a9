"""The arithmetic of a training step: operations counted, the share of the machine's peak, and where the time goes.

    python -m benchmarks arithmetic                       the book's small network, fp32 and bf16
    python -m benchmarks arithmetic --network paper       the paper's network for 32×32×3
    python -m benchmarks arithmetic --peak 312e12 --share 0.4      what the preset cifar10 would take on such a machine

Operations are multiplications and additions, two for each pair, of convolutions and matrix products, as torch's own
counter sees them in one real step; normalisation, activations and the optimiser are not counted, and show in the
profile. The peak is the best that a large matrix product reaches here, so the share says what is left to gain. What
the preset ``cifar10`` costs is a product of numbers, on a machine that the options name, and is called that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import timing
from benchmarks.pair import batch, training_step
from ddpm_lib import config, unet
from ddpm_lib.unet import UNet, UNetConfig

NETWORKS = {"small": unet.small(), "paper": unet.paper()}
SIDES = (256, 512, 1024, 2048, 4096)
# Which part of the work an operation belongs to, by what its name has in it; the first that fits.
KINDS = {
    "convolutions": ("convolution", "conv", "mkldnn"),
    "matrix products": ("mm", "linear", "attention", "matmul"),
    "normalisation": ("norm",),
    "optimiser": ("adam", "optimizer"),
    "casts and copies": ("copy", "to_copy", "contiguous", "clone", "cat", "unshuffle", "shuffle"),
    "activations": ("silu", "sigmoid", "softmax"),
}


@dataclass(frozen=True)
class Options(timing.Measuring):
    """Operations of a training step, the share of the peak, and the profile."""

    network: Literal["small", "paper"] = "small"
    """Which of the library's networks."""
    batch: int = 16
    """Images a step."""
    peak: float = 0.0
    """Operations a second of a machine for which the cost of the preset cifar10 is to be told; 0 for this one."""
    share: float = 0.4
    """Share of that peak that training is taken to reach there; of this machine it is measured."""

    def __post_init__(self):
        super().__post_init__()
        if self.batch < 1:
            raise ValueError(f"batch: expected at least 1, got {self.batch}")
        if self.peak < 0:
            raise ValueError(f"peak: expected operations a second, or 0 for this machine's, got {self.peak}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share: expected a number in (0, 1], got {self.share}")


def main(argv: list[str] | None = None) -> dict:
    """Run the benchmark; prints the tables and returns what it measured."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks arithmetic")
    shape = UNetConfig(width=16) if options.quick else NETWORKS[options.network]
    results = {"about": options.begin(), "rows": []}
    for precision in ("fp32", "bf16"):
        results["rows"].append(measure(shape, precision, options))
    results["cifar10"] = cost_of_cifar10(options, results["rows"][-1])
    print("\n" + as_text(results))
    return options.finish(results)


def measure(shape: UNetConfig, precision: str, options: Options) -> dict:
    """One precision: operations, images a second, peak, share, and the parts of the time."""
    step = training_step(UNet(shape).to(options.device), shape, options.batch, precision, options.device)
    operations = operations_of(step)
    seconds = timing.median(options.seconds({"step": step})["step"])
    peak = peak_of(precision, options)
    return {
        "precision": precision,
        "batch": options.batch,
        "operations": operations,
        "images_per_second": options.batch / seconds.value,
        "peak": peak,
        "share": operations / seconds.value / peak,
        "parts": parts_of(step, options.device),
    }


def operations_of(call) -> int:
    """How many multiplications and additions the call makes in convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def peak_of(precision: str, options: Options) -> float:
    """Operations a second of the fastest square matrix product."""
    dtype, best = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision], 0.0
    for side in SIDES[:2] if options.quick else SIDES:
        a, b = (torch.randn(side, side, device=options.device).to(dtype) for _ in range(2))
        calls = {"product": lambda a=a, b=b: a @ b}
        seconds = min(options.seconds(calls, warm_up=1)["product"])
        best = max(best, 2 * side**3 / seconds)
    return best


def parts_of(step, device: str, steps: int = 5) -> dict[str, float]:
    """Shares of the time by kind of operation, the largest first; "other" is what no name tells."""
    gpu = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
    with profile(activities=activities) as seen:
        for _ in range(steps):
            step()
    spent: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        own = event.self_device_time_total if gpu else event.self_cpu_time_total
        kind = next((k for k, words in KINDS.items() if any(w in event.key.lower() for w in words)), "other")
        spent[kind] += own
    total = sum(spent.values())
    return {kind: own / total for kind, own in sorted(spent.items(), key=lambda item: -item[1])}


def cost_of_cifar10(options: Options, row: dict) -> dict:
    """What the preset ``cifar10`` takes: operations a training image times images, over peak times share."""
    run, shape = config.cifar10(), UNetConfig(width=16) if options.quick else config.cifar10().model
    net, n = UNet(shape), 2
    x, t, y = batch(shape, n, "cpu")
    each = operations_of(lambda: net(x, t, y).square().mean().backward()) / n
    peak, share = (options.peak, options.share) if options.peak else (row["peak"], row["share"])
    seconds = each * run.images / (peak * share)
    return {
        "operations": each,
        "images": run.images,
        "peak": peak,
        "share": share,
        "seconds": seconds,
        "measured": False,
    }


def as_text(results: dict) -> str:
    """The table of both precisions, their profiles, and the preset's cost."""
    lines = [
        {
            "precision": row["precision"],
            "batch": row["batch"],
            "GFLOP an image": f"{row['operations'] / row['batch'] / 1e9:.3f}",
            "images/s": f"{row['images_per_second']:.1f}",
            "GFLOP/s": f"{row['share'] * row['peak'] / 1e9:.1f}",
            "peak, GFLOP/s": f"{row['peak'] / 1e9:.1f}",
            "share": f"{row['share']:.1%}",
        }
        for row in results["rows"]
    ]
    profiles = [
        f"{row['precision']}: " + ", ".join(f"{kind} {part:.0%}" for kind, part in row["parts"].items())
        for row in results["rows"]
    ]
    cost = results["cifar10"]
    return "\n".join(
        [
            timing.table(lines),
            "Where the time goes:",
            *profiles,
            f"The preset cifar10, as arithmetic and not measured: {cost['operations'] / 1e9:.1f} GFLOP a training image"
            f" × {cost['images']:,} images / ({cost['peak'] / 1e12:.3g} TFLOP/s × {cost['share']:.0%})"
            f" = {cost['seconds'] / 3600:,.1f} hours.",
        ]
    )
