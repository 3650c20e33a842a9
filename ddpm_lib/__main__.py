"""``python -m ddpm_lib``."""

from ddpm_lib.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
