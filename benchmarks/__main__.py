"""All benchmarks in turn, or one of them with its own options.

python -m benchmarks                      quality, step, overhead, arithmetic and scaling
python -m benchmarks --resume             the same; quality goes on where it was interrupted
python -m benchmarks quality --quick      one alone; each tells its options with --help

A benchmark that fails is named at the end, and the others still run; the exit code is then 1. Wrong options end with
one line and exit code 2.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback

NAMES = ("quality", "step", "overhead", "arithmetic", "scaling")


def main(argv: list[str]) -> int:
    """Run what argv asks for; returns the exit code."""
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    if argv and not argv[0].startswith("-"):
        name, options = argv[0], argv[1:]
        if name not in NAMES:
            return _refuse(f"expected one of {', '.join(NAMES)}, got {name!r}")
        return run(name, options)
    if unknown := [option for option in argv if option != "--resume"]:
        return _refuse(f"without a benchmark's name only --resume is taken, got {' '.join(unknown)}")
    failed = []
    for name in NAMES:
        print(f"\n== {name} ==", flush=True)
        begun = time.perf_counter()
        if run(name, argv if name == "quality" else []):
            failed.append(name)
        print(f"({name}: {(time.perf_counter() - begun) / 60:.1f} min)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, options: list[str]) -> int:
    """Run one benchmark; what it raises is printed, and becomes the exit code."""
    try:
        importlib.import_module(f"benchmarks.{name}").main(options)
    except SystemExit as error:  # the option parser's own refusal, or --help
        return error.code or 0
    except ValueError as error:
        return _refuse(str(error))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
