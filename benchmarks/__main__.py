"""Runs every benchmark and writes its table into docs/benchmarks.md: ``make bench``, or ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys

ALL = ["forest_single_row", "serve", "grpc_serve", "batch", "deploy_under_load", "many_endpoints", "pages", "profile_segments", "start"]


def main() -> int:
    """Run them one after the other; give the number of those that failed or missed their limit."""
    missed = 0
    for name in ALL:
        print(f"== {name}", flush=True)
        missed += subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--write"], check=False).returncode != 0
    return missed


if __name__ == "__main__":
    sys.exit(main())
