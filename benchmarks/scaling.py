"""How the cost grows: with the side of the image, the network's width, the number of steps, and the batch.

    python -m benchmarks scaling                fitted exponents beside those of the operations counted, and of theory
    python -m benchmarks scaling --only width   one of: side, width, steps, batch

Each row doubles one thing a few times and fits a straight line to log seconds over log size; the interval is that of
the fit's slope. Where a cost that does not grow is in the way, calls into the library above all, the exponent in time
is below that of the operations, and nears it as the size grows: the last column but one is the slope between the two
largest sizes. Theory: a convolution costs side² and width²; attention, which the small network has in the middle only,
side⁴; sampling is proportional to the number of steps T, and the images of a batch to their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tyro
from scipy import stats

from benchmarks import timing
from benchmarks.arithmetic import operations_of
from benchmarks.pair import training_step
from ddpm_lib import samplers, schedule, unet
from ddpm_lib.denoiser import NetworkDenoiser
from ddpm_lib.unet import UNet, UNetConfig

SMALL = replace(unet.small(), num_classes=None)
# name: (sizes, sizes of --quick, exponent by theory)
ROWS = {
    "side": ((16, 32, 64, 128), (8, 16), "2, attention 4"),
    "width": ((16, 32, 64, 128), (8, 16), "2"),
    "steps": ((10, 20, 40, 80), (2, 4), "1"),
    "batch": ((1, 4, 16, 64), (1, 2), "1"),
}


@dataclass(frozen=True)
class Options(timing.Measuring):
    """Exponents of the cost in side, width, steps and batch."""

    repeats: int = 7
    """Rounds; the table shows medians over them."""
    only: str = ""
    """Part of the names of the rows to measure."""


def main(argv: list[str] | None = None) -> dict:
    """Run the benchmark; prints the table and returns what it measured."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks scaling")
    chosen = [name for name in ROWS if options.only in name]
    if not chosen:
        raise ValueError(f"only: no row has {options.only!r} in its name; there are: {', '.join(ROWS)}")
    results = {"about": options.begin(), "rows": [measure(name, options) for name in chosen]}
    print("\n" + as_text(results["rows"]))
    return options.finish(results)


def measure(name: str, options: Options) -> dict:
    """One row: seconds and operations at each size, and the exponents of both."""
    sizes, few, theory = ROWS[name]
    sizes = few if options.quick else sizes
    calls = {str(size): call_for(name, size, options.device, options.quick) for size in sizes}
    operations = [operations_of(call) for call in calls.values()]
    seconds = [timing.median(values).value for values in options.seconds(calls).values()]
    return {
        "grows": name,
        "sizes": sizes,
        "seconds": seconds,
        "operations": operations,
        "in_time": exponent(sizes, seconds),
        "in_operations": exponent(sizes, operations),
        "last": np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2]),
        "theory": theory,
    }


def call_for(name: str, size: int, device: str, quick: bool) -> Callable[[], object]:
    """What is timed: a training step, or, for the number of steps, sampling."""
    base = UNetConfig(width=8, num_classes=None) if quick else SMALL
    if name == "steps":
        net = UNet(base).eval().to(device)
        shape = (4, base.in_channels, base.image_size, base.image_size)
        denoiser = NetworkDenoiser(net, schedule.linear())
        return lambda: samplers.sample(denoiser, shape, samplers.ddim, steps=size, device=device)
    if name == "side":
        shape = replace(base, image_size=size, patch=1)
    else:
        shape = replace(base, width=size) if name == "width" else base
    n = size if name == "batch" else 2 if name == "side" else 8
    return training_step(UNet(shape).to(device), shape, n, "fp32", device)


def exponent(sizes: tuple[int, ...], costs: list[float]) -> dict:
    """The slope of log cost over log size, with the 95 % interval of the fit; of two sizes there is none."""
    fit = stats.linregress(np.log(sizes), np.log(costs))
    free = len(sizes) - 2
    half = float(stats.t.ppf(0.975, free) * fit.stderr) if free else float("nan")
    return {"value": float(fit.slope), "low": float(fit.slope) - half, "high": float(fit.slope) + half}


def as_text(rows: list[dict]) -> str:
    """The table of exponents."""

    def shown(found: dict) -> str:
        return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"

    return timing.table(
        [
            {
                "grows": row["grows"],
                "sizes": ", ".join(map(str, row["sizes"])),
                "exponent in time": shown(row["in_time"]),
                "in operations": shown(row["in_operations"]),
                "theory": row["theory"],
                "time, last two": f"{row['last']:.2f}",
                "largest, ms": f"{row['seconds'][-1] * 1e3:.0f}",
            }
            for row in rows
        ]
    )
