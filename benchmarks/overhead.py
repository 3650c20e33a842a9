"""What sampling costs beyond the network: the share of a sampler's time that is not spent in network calls.

    python -m benchmarks overhead              DDIM in 20 steps and ancestral sampling in 100, three batch sizes

Ours is ``samplers.sample``, beside it diffusers' ``DDIMPipeline`` and ``DDPMPipeline`` with the same network and
weights. Both are asked for images as numbers, without a progress bar. The network's calls are timed where they happen;
what remains of the whole is everything else: schedule, noise, arithmetic on images, Python. The smaller the network
and the batch, the more it weighs, so the network here is the book's small one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import tyro
from torch import nn

from benchmarks import timing
from benchmarks.pair import pair
from ddpm_lib import samplers, schedule, unet
from ddpm_lib.denoiser import NetworkDenoiser

WAYS = (("ddim", 20), ("ancestral", 100))


@dataclass(frozen=True)
class Options(timing.Measuring):
    """Sampling beyond the bare network calls, beside diffusers' pipelines."""

    batches: tuple[int, ...] = (1, 16, 64)
    """How many images at a time."""


def main(argv: list[str] | None = None) -> dict:
    """Run the benchmark; prints the table and returns what it measured."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks overhead")
    if options.quick:
        options = replace(options, batches=(2,))
    results = {"about": options.begin(), "rows": []}
    peer, ours = pair(replace(unet.small(), num_classes=None))
    ways = {"ddpm_lib": (ours, our_way), "diffusers": (peer.net, their_way)}
    for net, _ in ways.values():
        net.eval().to(options.device)
    for sampler, steps in (("ddim", 5), ("ancestral", 5)) if options.quick else WAYS:
        for n in options.batches:
            for package, (net, way) in ways.items():
                call = way(net, sampler, steps, n, options.device)
                row = {"sampler": sampler, "steps": steps, "batch": n, "package": package}
                results["rows"].append(row | measure(net, call, options))
    print(as_text(results["rows"]))
    return options.finish(results)


def our_way(net: nn.Module, sampler: str, steps: int, n: int, device: str) -> Callable[[], object]:
    """This library's sampling of n images."""
    denoiser, config = NetworkDenoiser(net, schedule.linear(1000), "eps"), net.config
    shape, way = (n, config.in_channels, config.image_size, config.image_size), getattr(samplers, sampler)
    return lambda: samplers.sample(denoiser, shape, way, steps, device=device)


def their_way(net: nn.Module, sampler: str, steps: int, n: int, device: str) -> Callable[[], object]:
    """Diffusers' sampling of n images; without clipping, which ours does not do either."""
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler

    kinds = {"ddim": (DDIMPipeline, DDIMScheduler), "ancestral": (DDPMPipeline, DDPMScheduler)}
    pipeline, scheduler = kinds[sampler]
    draw = pipeline(net, scheduler(clip_sample=False)).to(device)
    draw.set_progress_bar_config(disable=True)
    generator = torch.Generator(device).manual_seed(0)
    return lambda: draw(n, generator=generator, num_inference_steps=steps, output_type="np").images


def measure(net: nn.Module, call: Callable[[], object], options: Options) -> dict:
    """Seconds of the whole and, within it, of the network's calls; once a round."""
    clock, wait = timing.CLOCKS[options.clock], timing.synchronizer(options.device)
    call()
    whole, inside = [], []
    for _ in range(options.rounds):
        with timed(net, clock, wait) as calls:
            wait()
            begun = clock()
            call()
            wait()
            whole.append(clock() - begun)
        inside.append(sum(calls))
    beyond = timing.median([1 - calls / seconds for seconds, calls in zip(whole, inside, strict=True)])
    return {"calls": len(calls), "seconds": whole, "network_seconds": inside, "beyond": vars(beyond)}


@contextmanager
def timed(net: nn.Module, clock: Callable[[], float], wait: Callable[[], None]) -> Iterator[list[float]]:
    """Collect the seconds of each call of net."""
    begun, seconds = [], []

    def before(*_) -> None:
        wait()
        begun.append(clock())

    def after(*_) -> None:
        wait()
        seconds.append(clock() - begun.pop())

    hooks = net.register_forward_pre_hook(before), net.register_forward_hook(after)
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def as_text(rows: list[dict]) -> str:
    """The table: calls, milliseconds a call, and the share beyond them with its interval."""
    lines = []
    for row in rows:
        beyond = timing.Median(**{**row["beyond"], **percent(row["beyond"])})
        each = timing.median(row["network_seconds"]).value / row["calls"]
        rest = beyond.value / 100 * timing.median(row["seconds"]).value / row["calls"]
        lines.append(
            {
                "sampler": f"{row['sampler']}-{row['steps']}",
                "batch": row["batch"],
                "package": row["package"],
                "calls": row["calls"],
                "ms a call": f"{each * 1e3:.2f}",
                "ms beyond it": f"{rest * 1e3:.3f}",
                "beyond, % [95 %]": beyond.show(),
            }
        )
    return timing.table(lines)


def percent(found: dict) -> dict:
    return {name: 100 * found[name] for name in ("value", "low", "high")}
