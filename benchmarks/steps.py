"""Distance and time against the number of steps: the same network, the same noise, another sampler.

    python -m benchmarks steps                 every row, 1,000 digits each; takes hours on a CPU
    python -m benchmarks steps --resume        go on after an interruption
    python -m benchmarks steps --only ddim     the rows whose name has "ddim" in it
    python -m benchmarks steps --quick         100 digits, 5 steps: shows that it runs
    python -m benchmarks steps --again         the rows that a wish is about, 4,000 other digits each

The network is the one that comes with the package, told its classes in turn, its clean images clipped. The distance is
Fréchet's to all 5,000 real digits, in the features of the embedded digit classifier. Every row starts image i from the
same noise, so that rows can be compared digit by digit. The book's chapter on DDIM reads the file that comes with the
weights; ``--out ddpm_lib/weights/mnist5k/steps.json`` renews it. Who chooses the best of many rows chooses luck, too;
so what was wished for is measured ``--again``, on digits that had no part in the choice, into ``steps-again.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from benchmarks.quality import Flag, Scorer, apart, previous
from benchmarks.timing import processor
from ddpm_lib import data, metrics, samplers, training
from ddpm_lib.checkpoint import write_atomic
from ddpm_lib.denoiser import Clipped, NetworkDenoiser

COUNTS, ETAS, FEW = (5, 10, 20, 50, 100, 200, 1000), (0.0, 0.5, 1.0), (5, 10, 20, 50)
CHAIN = "ddim, eta 1, 1000 steps"  # DDPM's own way: ancestral sampling with the posterior's variance
WISHED = (
    "ddim, eta 0, 20 steps",
    "ddim, eta 0.25, 20 steps",
    "ddim, eta 0, 20 steps, quadratic",
    "ddim, eta 0.25, 20 steps, quadratic",
    "heun, 10 steps, quadratic",
    "dpm_solver, 10 steps, log-snr",
    "dpm_solver, eta 0.5, 10 steps, log-snr",
    CHAIN,
)


@dataclass(frozen=True)
class Options:
    """Distance and time against the number of steps."""

    n: int = 1000
    """Digits that each row draws."""
    first: int = 0
    """Number of the first one: digit i comes from noise number i."""
    batch: int = 100
    """Digits that are drawn at a time."""
    threads: int = 1
    """CPU threads. With one, the CPU time is what a machine that does nothing else takes."""
    device: str = "cpu"
    """Where to sample: cpu, cuda, mps."""
    only: str = ""
    """Part of the names of the rows to measure."""
    out: Path = Path("runs/bench/steps.json")
    """Where results are kept, after each row."""
    resume: Flag = False
    """Keep what --out already holds of this very measurement."""
    again: Flag = False
    """Only the rows that a wish is about and the longest chain, 4,000 digits from number 1,000 on."""
    quick: Flag = False
    """100 digits and the fewest steps: shows that all of it runs, and nothing else."""

    def check(self) -> None:
        """Raise ValueError for what can't be measured."""
        for name in ("n", "batch", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if self.first < 0 or self.first % self.batch:
            raise ValueError(f"first: expected a multiple of batch = {self.batch}, got {self.first}")
        if self.n < 100:
            raise ValueError(f"n: expected at least 100 digits for a covariance of 64 features, got {self.n}")


@dataclass(frozen=True)
class Way:
    """One row: a sampler, its η where it has one, how many steps, and how they are spaced."""

    sampler: str
    steps: int
    eta: float | None = None
    spacing: str = "uniform"

    @property
    def name(self) -> str:
        """What the table and ``--only`` know it by."""
        eta = "" if self.eta is None else f", eta {self.eta:g}"
        spacing = "" if self.spacing == "uniform" else f", {self.spacing}"
        return f"{self.sampler}{eta}, {self.steps} steps{spacing}"

    @property
    def calls(self) -> int:
        """How often the network is asked about each digit."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    def draw(self, denoiser: NetworkDenoiser, labels: Tensor, seed: int) -> Tensor:
        """Digits of these classes, (B, 1, 28, 28) uint8 on the CPU."""
        asked = Clipped(denoiser.given(labels))
        options = {} if self.eta is None else {"eta": self.eta}
        plan = {"steps": self.steps, "spacing": self.spacing, "seed": seed, "device": labels.device}
        sampler = getattr(samplers, self.sampler)
        return data.to_bytes(
            samplers.sample(asked, (len(labels), 1, 28, 28), sampler, **plan, **options)
        ).cpu()


def ways() -> list[Way]:
    """Every row, those with the fewest calls first."""
    rows = [Way("ddim", steps, eta) for steps in COUNTS for eta in ETAS]
    rows += [Way(sampler, steps) for sampler in ("dpm_solver", "heun") for steps in FEW]
    for steps in FEW[:3]:
        rows += [Way("ddim", steps, 0.25)]
        rows += [Way("ddim", steps, 0.0, spacing) for spacing in ("leading", "trailing")]
        rows += [Way("ddim", steps, eta, "quadratic") for eta in (0.0, 0.25, 1.0)]
        rows += [Way(sampler, steps, spacing="quadratic") for sampler in ("dpm_solver", "heun")]
        rows += [Way(sampler, steps, spacing="log-snr") for sampler in ("dpm_solver", "heun")]
        rows += [Way("dpm_solver", steps, eta, "log-snr") for eta in (0.5, 1.0)]
    return sorted(rows, key=lambda way: way.calls)


def main(argv: list[str] | None = None) -> dict:
    """Measure the chosen rows; prints the table and returns what it wrote to ``--out``."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks steps")
    options.check()
    chosen = [way for way in ways() if options.only in way.name]
    if options.again:
        options = replace(options, n=4000, first=1000)
        chosen = [way for way in chosen if way.name in WISHED]
    if options.quick:
        options = replace(options, n=100, out=apart(options.out, Options().out))
        chosen = [way for way in chosen if way.steps == min(one.steps for one in chosen)]
    if not chosen:
        raise ValueError(f"only: none has {options.only!r} in its name; there are {[w.name for w in ways()]}")
    torch.set_num_threads(options.threads)
    denoiser, _ = training.load_pretrained("mnist5k", training.pick_device(options.device))
    scorer = Scorer.from_digits()
    results = measured(denoiser, chosen, options, scorer)
    print("\n" + as_text(results))
    return results


def measured(denoiser: NetworkDenoiser, chosen: list[Way], options: Options, scorer: Scorer) -> dict:
    """Measure each way that is not in the file yet; what is done is written at once."""
    weights = sum(p.double().abs().sum().item() for p in denoiser.net.parameters())
    settings = {
        "n": options.n,
        "first": options.first,
        "batch": options.batch,
        "threads": options.threads,
        "device": options.device,
        "weights": round(weights, 3),
        "torch": torch.__version__,
        "cpu": processor(),
    }
    results = previous(options.out, settings) if options.resume else None
    if results is None:
        floor = scorer.floor(options.n, balanced=True)
        results = {"settings": settings, "floor": floor, "runs": []}
    done = {row["name"] for row in results["runs"]}
    todo = [way for way in chosen if way.name not in done]
    for place, way in enumerate(todo, 1):
        row = measure(denoiser, way, options, left_out(scorer))
        results["runs"].append(row)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(options.out, json.dumps(results, indent=1).encode())
        print(
            f"[{place}/{len(todo)}] {way.name}: {row['distance']:.3f}, {row['cpu_seconds']:.0f} s of CPU",
            flush=True,
        )
    return results


def measure(
    denoiser: NetworkDenoiser, way: Way, options: Options, score: Callable[[Tensor], list[float]]
) -> dict:
    """Draw one row's digits, the classes in turn, and score them."""
    labels = (torch.arange(options.n) % 10).to(next(denoiser.net.parameters()).device)
    parts, wall, cpu = [], time.perf_counter(), time.process_time()
    blocks = labels.split(options.batch)
    bar = tqdm(blocks, desc=way.name, unit="block", leave=False)
    for block, part in enumerate(bar, options.first // options.batch):
        parts.append(way.draw(denoiser, part, seed=block))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pixels = torch.cat(parts)
    distance, *without = score(pixels)
    right = metrics.correct(
        metrics.load_classifier(), data.Images(pixels, labels.cpu(), [str(digit) for digit in range(10)])
    )
    return {
        "name": way.name,
        "sampler": way.sampler,
        "eta": way.eta,
        "spacing": way.spacing,
        "steps": way.steps,
        "calls": way.calls,
        "distance": distance,
        "left_out": without,
        "of_the_class": int(right.sum()),
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
    }


def left_out(scorer: Scorer) -> Callable[[Tensor], list[float]]:
    """A score: the distance of these digits to the real ones, then that with a twentieth of them left out in turn.

    Of these an interval is made, of one distance by ``interval`` and of the quotient of two by ``ratio``.
    """
    target = metrics.moments(scorer.real)

    def score(pixels: Tensor) -> list[float]:
        found, values = metrics.features(scorer.extractor, pixels), []

        def distance(rows: Tensor | slice) -> float:
            values.append(metrics.frechet_between(*metrics.moments(found[rows]), *target))
            return values[-1]

        metrics.jackknife_interval(len(found), distance, distance(slice(None)))
        return values

    return score


def interval(row: dict, n: int) -> tuple[float, float, float]:
    """A row's distance and its 95 % interval over the digits drawn."""
    values = iter(row["left_out"])
    return metrics.jackknife_interval(n, lambda rows: next(values), row["distance"])


def ratio(row: dict, other: dict, n: int) -> tuple[float, float, float]:
    """How many times the other's distance a row's is, and the 95 % interval.

    The same digits are left out of both, and they began with the same noise: what is by chance the same cancels.
    """
    values = (one / another for one, another in zip(row["left_out"], other["left_out"], strict=True))
    return metrics.jackknife_interval(n, lambda rows: next(values), row["distance"] / other["distance"])


def as_text(results: dict) -> str:
    """The table."""
    n, rows = results["settings"]["n"], results["runs"]
    chain = next((row for row in rows if row["name"] == CHAIN), None)
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}  calls  distance        95 %         of the chain's   right    CPU s"]
    for row in sorted(rows, key=lambda row: (row["sampler"], row["eta"] or 0, row["spacing"], row["steps"])):
        value, low, high = interval(row, n)
        to_chain = "" if chain is None else "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(row, chain, n))
        lines.append(
            f"{row['name']:{width}}  {row['calls']:5d}  {value:8.3f}  [{low:6.3f}, {high:6.3f}]  {to_chain:>17}"
            f"  {row['of_the_class'] / n:6.1%}  {row['cpu_seconds']:7.0f}"
        )
    lines.append(f"Floor, {n:,} real digits: {results['floor']['mean']:.3f}. {results['settings']['cpu']}.")
    return "\n".join(lines)
