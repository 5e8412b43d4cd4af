"""How long ``signalbox up`` takes until it says where to sign in, once installed: on an empty folder, and again on what that left.

Ends with code 1 when a median is over ``LIMIT_S``. Run: ``python -m benchmarks.start [--write] [--rounds 5]``.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks.tables import put_section

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 20.0
_STARTS = ("on an empty folder", "again")


class Start(NamedTuple):
    """Seconds until the database answered, until the block was printed, and from Ctrl-C to the end; and of processors, over all."""

    database_s: float
    ready_s: float
    stopped_s: float
    processor_s: float


@click.command()
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
@click.option("--rounds", default=5, help="Rounds, each with both starts.")
def main(*, write: bool, rounds: int) -> None:
    """Measure, print, judge, and write."""
    found: dict[str, list[Start]] = {title: [] for title in _STARTS}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="signalbox-start-") as folder:
            for title in _STARTS:
                found[title].append(started(Path(folder) / "var"))
                print(f"round {number + 1}, {title}: {found[title][-1].ready_s:.1f} s", flush=True)
    text = table(found, rounds)
    print(text)
    if write:
        put_section(ROOT / "docs" / "benchmarks.md", "Start", text)
    sys.exit(any(statistics.median(each.ready_s for each in starts) > LIMIT_S for starts in found.values()))


def started(var_dir: Path) -> Start:
    """Start the product as it comes, but for its ports, and stop it once it is ready."""
    ports = {f"SIGNALBOX_{name}_PORT": str(_free_port()) for name in ("CONSOLE", "PREDICT", "GRPC")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNALBOX_", "DATABASE_URL", "REDIS_URL"))}
    begun, used = time.perf_counter(), _processor_s()
    process = subprocess.Popen(
        [sys.executable, "-m", "config.cli.main", "up"],
        cwd=ROOT,
        env={**kept, **ports, "SIGNALBOX_VAR_DIR": str(var_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    database_s = 0.0
    for line in process.stdout:
        if said := re.search(r"database +ready +([\d.]+) s", line):
            database_s = float(said[1])
        if "Ctrl-C" in line:
            break
    ready_s = time.perf_counter() - begun
    process.send_signal(signal.SIGINT)
    if process.wait(30) != 0:
        raise RuntimeError("signalbox up did not start; run it to see why")
    return Start(database_s, ready_s, time.perf_counter() - begun - ready_s, _processor_s() - used)


def table(found: dict[str, list[Start]], rounds: int) -> str:
    rows = [
        f"| {title} | {_median(starts, 0):.1f} | **{_median(starts, 1):.1f}** | {max(each.ready_s for each in starts):.1f}"
        f" | {_median(starts, 2):.1f} | {_median(starts, 3):.1f} |"
        for title, starts in found.items()
    ]
    return f"""`python -m benchmarks.start --write`: from `signalbox up`, once installed, to the block with the link that signs in: database, tables,
static files, data plane, gRPC, workers, sandbox, beat and console. Medians of {rounds} rounds; under {LIMIT_S:.0f} s is wanted.
The processors' seconds are those of all processes, stopping included: with two free cores a start takes about half of them.
{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}. The load average was {os.getloadavg()[0]:.1f} at the end.

| start | database s | ready s | slowest s | stopped s | processor s |
|---|---|---|---|---|---|
{chr(10).join(rows)}"""


def _median(starts: list[Start], place: int) -> float:
    return statistics.median(start[place] for start in starts)


def _processor_s() -> float:
    """Give what every process that has ended has used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
