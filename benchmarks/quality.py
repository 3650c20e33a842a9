"""Quality per minute: the same data, cores, time and measure for each package.

    python -m benchmarks quality                     all contestants, 300 s of training each
    python -m benchmarks quality --quick             10 s each, to see that everything runs
    python -m benchmarks quality --only ddpm_lib     those whose name has "ddpm_lib" in it
    python -m benchmarks quality --resume            go on after an interruption

Each contestant trains for ``--seconds`` on the 4,500 training digits and draws ``--n`` of them in 20 steps of DDIM, or
of its package's own sampler of that kind, the same number of each class where it is told classes. Their Fréchet
distance to all 5,000 real digits, in the features of the embedded digit classifier, is the score; as many real digits
drawn from the 5,000, by class or not as the contestant does, score the floor.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor

from benchmarks.peers import Contestant, contestants
from ddpm_lib import data, metrics
from ddpm_lib.checkpoint import write_atomic

Flag = tyro.conf.FlagCreatePairsOff[bool]
FLOOR_DRAWS = 20


@dataclass(frozen=True)
class Options:
    """Quality per minute of training, against other packages."""

    seconds: float = 300
    """Training time of each contestant."""
    n: int = 1000
    """Images that each draws."""
    repeats: int = 1
    """Seeds of each contestant, 0, 1, ...; the table shows the median."""
    threads: int = min(2, torch.get_num_threads())
    """CPU threads."""
    only: str = ""
    """Part of the names (package, kind and condition, as the table shows them) of those to run."""
    out: Path = Path("runs/bench/quality.json")
    """Where results are kept, after each contestant."""
    resume: Flag = False
    """Keep what --out already holds of this very measurement."""
    quick: Flag = False
    """10 s and 80 images each: shows that all of it runs, and nothing else."""

    def brief(self) -> Options:
        """As quick asks; kept apart from what a whole run left, unless another place was chosen."""
        return replace(self, seconds=10.0, n=80, out=apart(self.out, type(self)().out))

    def check(self) -> None:
        """Raise ValueError for what can't be measured."""
        for name in ("seconds", "n", "repeats", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")


def apart(out: Path, usual: Path) -> Path:
    """Where a quick run is kept: beside the usual place, or where it was asked for."""
    return out.with_stem(f"{out.stem}-quick") if out == usual else out


def main(argv: list[str] | None = None) -> dict:
    """Run the benchmark; prints the table and returns what it wrote to ``--out``."""
    return measured(tyro.cli(Options, args=argv, prog="python -m benchmarks quality"), contestants())


def measured(options: Options, known: list[Contestant]) -> dict:
    """Measure those of the known contestants that the options ask for, and print the table."""
    options.check()
    if options.quick:
        options = options.brief()
    torch.set_num_threads(options.threads)
    chosen = [c for c in known if options.only in label(c)]
    if not chosen:
        names = "; ".join(label(c) for c in known)
        raise ValueError(f"only: none has {options.only!r} in its name; there are: {names}")
    results = run(chosen, options)
    print("\n" + as_text(results))
    return results


def run(chosen: list[Contestant], options: Options) -> dict:
    """Measure each contestant that is installed, with each seed; what is done is written at once."""
    settings = {
        "seconds": options.seconds,
        "n": options.n,
        "threads": options.threads,
        "torch": torch.__version__,
        "cpu": cpu_name(),
    }
    results = previous(options.out, settings) if options.resume else None
    scorer = Scorer.from_digits()
    if results is None:
        floor = {told(balanced): scorer.floor(options.n, balanced) for balanced in (True, False)}
        results = {"settings": settings, "floor": floor, "runs": []}
    done = {(r["name"], r["seed"]) for r in results["runs"]}
    todo = [(c, seed) for seed in range(options.repeats) for c in chosen if (label(c), seed) not in done]
    train_images = data.load("mnist5k", "train")
    for place, (contestant, seed) in enumerate(todo, 1):
        head = f"[{place}/{len(todo)}] {label(contestant)}, seed {seed}"
        if not contestant.installed:
            print(f"{head}: not installed, left out", flush=True)
            continue
        print(f"{head}: training {options.seconds:.0f} s", flush=True)
        row = measure(contestant, train_images, scorer, options, seed)
        results["runs"].append(row)
        save(options.out, results)
        print(
            f"    {row['images_per_second']:.0f} images/s, distance {row['distance']:.2f}; "
            f"trained {row['train_seconds']:.0f} s, sampled {row['sample_seconds']:.0f} s",
            flush=True,
        )
    return results


def measure(contestant: Contestant, images: data.Images, scorer: Scorer, options: Options, seed: int) -> dict:
    """Train one contestant, draw from it and score what it drew."""
    gc.collect()
    begun = time.perf_counter()
    trained = contestant.train(images, options.seconds, seed)
    train_seconds = time.perf_counter() - begun
    labels = torch.arange(options.n) % len(images.classes) if contestant.conditional else None
    begun = time.perf_counter()
    pixels = trained.sample(options.n, labels, seed + 1)
    sample_seconds = time.perf_counter() - begun
    expected = (options.n, *images.pixels.shape[1:])
    if pixels.dtype != torch.uint8 or tuple(pixels.shape) != expected:
        raise ValueError(
            f"{label(contestant)}: expected {expected} uint8 images, got {tuple(pixels.shape)} {pixels.dtype}"
        )
    distance, low, high = scorer.distance(pixels)
    return {
        "name": label(contestant),
        "package": contestant.name,
        "kind": contestant.kind,
        "conditional": contestant.conditional,
        "seed": seed,
        "parameters": trained.parameters,
        "images_seen": trained.images_seen,
        "train_seconds": train_seconds,
        "images_per_second": trained.images_seen / train_seconds,
        "sample_seconds": sample_seconds,
        "distance": distance,
        "interval": [low, high],
    }


class Scorer:
    """Fréchet distances to a set of real images, in the features of an extractor."""

    def __init__(self, extractor: Callable[[Tensor], Tensor], real: data.Images):
        self.extractor, self.labels = extractor, real.labels
        self.real = metrics.features(extractor, real.pixels)

    @classmethod
    def from_digits(cls) -> Scorer:
        """The embedded classifier's features, against all 5,000 digits."""
        return cls(metrics.digit_features(), data.load("mnist5k", "all"))

    def distance(self, pixels: Tensor) -> tuple[float, float, float]:
        """The distance of these images, (n, 1, 28, 28) uint8, to the real ones, and its interval."""
        return metrics.frechet_interval(metrics.features(self.extractor, pixels), self.real)

    def floor(self, n: int, balanced: bool) -> dict:
        """What n of the real images themselves are from all of them, over several draws.

        balanced: as many of each class, as a contestant draws that is told classes; else at random.
        """
        generator, values = torch.Generator().manual_seed(0), []
        for _ in range(FLOOR_DRAWS):
            order = torch.randperm(len(self.real), generator=generator)
            if balanced:  # round after round one of each class
                place = torch.zeros_like(order)
                for members in (self.labels[order] == c for c in self.labels.unique()):
                    place[members] = torch.arange(int(members.sum()))
                order = order[place.argsort(stable=True)]
            values.append(metrics.frechet_distance(self.real[order[:n]], self.real))
        return {"mean": statistics.mean(values), "deviation": statistics.stdev(values), "draws": FLOOR_DRAWS}


def label(contestant: Contestant) -> str:
    """The name by which the table and ``--only`` know it."""
    return f"{contestant.name}, {contestant.kind}, {told(contestant.conditional)}"


def told(conditional: bool) -> str:
    return "with classes" if conditional else "without classes"


def summary(results: dict) -> list[dict]:
    """One row a contestant: medians over its seeds, what is left above the floor, and how many times ours that is.

    Floor and ours are those of the same condition: told classes or not.
    """
    rows = []
    for name in dict.fromkeys(r["name"] for r in results["runs"]):
        runs = [r for r in results["runs"] if r["name"] == name]
        row = {key: runs[0][key] for key in ("name", "package", "kind", "conditional", "parameters")}
        for key in ("distance", "images_per_second", "train_seconds", "sample_seconds"):
            row[key] = statistics.median(r[key] for r in runs)
        row["interval"] = runs[0]["interval"] if len(runs) == 1 else None
        floor = results["floor"][told(row["conditional"])]["mean"]
        rows.append(row | {"seeds": len(runs), "above_floor": row["distance"] - floor})
    ours = {r["conditional"]: r["above_floor"] for r in rows if r["kind"] == "ours"}
    for row in rows:
        mine = ours.get(row["conditional"])
        row["times_ours"] = None if mine is None or mine <= 0 else row["above_floor"] / mine
    return rows


def as_text(results: dict) -> str:
    """The table."""
    rows, settings, floor = summary(results), results["settings"], results["floor"]
    width = max((len(r["name"]) for r in rows), default=10)
    lines = [f"{'':{width}}  parameters  images/s  distance  above floor  times ours"]
    for r in sorted(rows, key=lambda r: (not r["conditional"], r["distance"])):
        ratio = "-" if r["times_ours"] is None else f"{r['times_ours']:.1f}"
        around = "  [{:.2f}, {:.2f}]".format(*r["interval"]) if r["interval"] else f"  {r['seeds']} seeds"
        lines.append(
            f"{r['name']:{width}}  {r['parameters']:>10,}  {r['images_per_second']:>8.0f}  {r['distance']:>8.2f}"
            f"  {r['above_floor']:>11.2f}  {ratio:>10}{around}"
        )
    floors = ", ".join(f"{name} {f['mean']:.2f} ± {f['deviation']:.2f}" for name, f in floor.items())
    lines.append(
        f"Floor, {settings['n']:,} real digits: {floors}. {settings['seconds']:.0f} s of training on "
        f"{settings['threads']} threads, 20 steps of sampling. One seed: the interval is over the images drawn; "
        f"several: medians. torch {settings['torch']}, {settings['cpu']}."
    )
    return "\n".join(lines)


def previous(out: Path, settings: dict) -> dict | None:
    """What an earlier, interrupted run of the same measurement left; ValueError where it was another one."""
    if not out.exists():
        return None
    try:
        results = json.loads(out.read_text())
        same = results["settings"] == settings
        results["floor"], results["runs"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"resume: {out} holds no results of this benchmark: {error}") from None
    if not same:
        raise ValueError(f"resume: {out} was measured with {results['settings']}, not {settings}")
    return results


def save(out: Path, results: dict) -> None:
    """Write the results, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, json.dumps({**results, "table": summary(results)}, indent=1).encode())


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
