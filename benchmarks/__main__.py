"""All benchmarks in turn, or one of them with its own options.

python -m benchmarks                      quality, step, overhead, arithmetic and scaling; results in runs/bench
python -m benchmarks --resume             the same; quality goes on where it was interrupted
python -m benchmarks --quick              all of it, briefly: shows that it runs, and nothing else
python -m benchmarks quality --help       one alone, with its own options

A benchmark that fails is named at the end, and the others still run; the exit code is then 1. Wrong options end with
a message and exit code 2. Two more run only by name: steps, which chapter 11 shows, and tuning, which looks for the
best configuration of each peer in quality.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

NAMES = ("quality", "step", "overhead", "arithmetic", "scaling")
ALONE = ("steps", "tuning")


def main(argv: list[str]) -> int:
    """Run what argv asks for; returns the exit code."""
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    if argv and not argv[0].startswith("-"):
        name, options = argv[0], argv[1:]
        if name not in NAMES + ALONE:
            return _refuse(f"expected one of {', '.join(NAMES + ALONE)}, got {name!r}")
        return run(load(name), options)
    if unknown := set(argv) - {"--resume", "--quick"}:
        return _refuse(f"without a benchmark's name only --resume and --quick are taken, got {min(unknown)}")
    quick = ["--quick"] if "--quick" in argv else []
    folder = Path("runs/bench/quick" if quick else "runs/bench")
    failed = []
    for name in NAMES:
        print(f"\n== {name} ==", flush=True)
        begun = time.perf_counter()
        written = ["--out" if name == "quality" else "--json", str(folder / f"{name}.json")]
        resumed = ["--resume"] if name == "quality" and "--resume" in argv else []
        if run(load(name), [*quick, *resumed, *written]):
            failed.append(name)
        print(f"({name}: {(time.perf_counter() - begun) / 60:.1f} min)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(benchmark: Callable[[list[str]], dict], options: list[str]) -> int:
    """Run one benchmark; what it raises is printed, and becomes the exit code."""
    try:
        benchmark(options)
    except SystemExit as error:  # the option parser's own refusal, or --help
        return error.code or 0
    except ValueError as error:
        return _refuse(str(error))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def load(name: str) -> Callable[[list[str]], dict]:
    """The benchmark of this name; it is imported when it runs, so that one that can't be does not stop the others."""

    def benchmark(options: list[str]) -> dict:
        return importlib.import_module(f"benchmarks.{name}").main(options)

    return benchmark


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
