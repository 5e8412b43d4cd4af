"""The whole product as real processes, on free ports and in a folder of its own; and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from core.environment import ROOT, Environment

FEW = {"SIGNALBOX_DATAPLANE_PROCESSES": "1", "SIGNALBOX_WORKER_PROCESSES": "1"}
"""For a product of which one process of each kind is enough: it starts sooner."""
STOPPED_WITHIN_S = 10


@dataclass(frozen=True)
class Product:
    """A running ``signalbox up``. ``block`` is what it printed."""

    process: subprocess.Popen[str]
    var_dir: Path
    run_dir: Path
    console_url: str
    predict_url: str
    admin_key: str
    block: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def processes(self) -> dict[str, int]:
        """The pids by name, as the supervisor wrote them down."""
        found: dict[str, int] = json.loads((self.run_dir / "up.json").read_text())["processes"]
        return found

    @property
    def grpc_address(self) -> str:
        """Host and port of gRPC, which the product has if it was started with a port for it."""
        address: str = json.loads((self.run_dir / "up.json").read_text())["grpc_address"]
        return address

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``signalbox`` with ``arguments`` as somebody on this machine would."""
        return run_command(self.var_dir, *arguments, **environ)

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = STOPPED_WITHIN_S + 5) -> int:
        """End it and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


def start_product(var_dir: Path, **environ: str) -> Product:
    """Start the product without its demo and return once it has printed its block."""
    log = var_dir.with_name(f"{var_dir.name}-up.log")
    process = begin_product(var_dir, log, **environ)
    block = _read_block(process, log)
    run_dir = Environment(var_dir=var_dir).run_dir
    note = json.loads((run_dir / "up.json").read_text())
    return Product(process, var_dir, run_dir, note["console_url"], note["predict_url"], (var_dir / "cli.key").read_text(), block)


def begin_product(var_dir: Path, log: Path, **environ: str) -> subprocess.Popen[str]:
    """Start the product and return at once; its progress goes to ``log``."""
    command = [sys.executable, "-m", "config.cli.main", "up"]
    with log.open("w") as errors:
        return subprocess.Popen(command, cwd=ROOT, env=_environ(var_dir, environ), stdout=subprocess.PIPE, stderr=errors, text=True)


def run_command(var_dir: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "config.cli.main", *arguments]
    return subprocess.run(command, cwd=ROOT, env=_environ(var_dir, environ), capture_output=True, text=True, check=False, timeout=120)


def processes_of(var_dir: Path) -> dict[int, str]:
    """Give pid and command of every living process that belongs to the folder."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            belongs = str(var_dir) in command or f"SIGNALBOX_VAR_DIR={var_dir}\0".encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        if belongs and command:
            found[int(folder.name)] = command
    return found


def wait_until_gone(var_dir: Path, within_s: float) -> dict[int, str]:
    """Wait until no process of the folder is left; give those that are."""
    deadline = time.monotonic() + within_s
    while (left := processes_of(var_dir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _environ(var_dir: Path, more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNALBOX_", "DATABASE_URL", "REDIS_URL", "PYTEST_"))}
    ours = {"SIGNALBOX_VAR_DIR": str(var_dir), "SIGNALBOX_CONSOLE_PORT": "0", "SIGNALBOX_PREDICT_PORT": "0", "SIGNALBOX_GRPC_PORT": "0", "SIGNALBOX_DEMO": "0"}
    return {**kept, **ours, **more}


def _read_block(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return "".join(lines)
    raise AssertionError(f"signalbox up ended with code {process.wait()}:\n{log.read_text()}")
