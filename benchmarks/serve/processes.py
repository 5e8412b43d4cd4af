"""Starts servers and everything they start, measures what those processes use, and ends all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from core.embedded import child
from core.embedded.server import last_lines

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2
_PATIENCE_S = 10
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A running server: where it listens and which processes are its, those of its children included."""

    name: str
    port: int
    roots: list[Popen[bytes]]
    log: Path
    _seen: dict[int, str] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        return all(process.poll() is None for process in self.roots)

    def members(self) -> list[int]:
        """Give the ids of its processes that live, also of those whose parent has died since they were last seen."""
        for root in self.roots:
            self._seen |= {pid: started for pid in _tree(root.pid) if (started := _started(pid))}
        return [pid for pid, started in self._seen.items() if _started(pid) == started]

    def cpu_s(self) -> float:
        """Give the processor time that they have used."""
        return sum(_cpu_s(pid) for pid in self.members())

    def memory_mb(self) -> tuple[float, int]:
        """Give the sum of the proportional set sizes, and how many processes it is of."""
        sizes = [size for pid in self.members() if (size := _pss_mb(pid))]
        return sum(sizes), len(sizes)

    def last_words(self) -> str:
        """Give the last line of its log, for the table of one that died."""
        return (last_lines(self.log).splitlines() or ["no output"])[-1][:160]

    def stop(self) -> None:
        """Ask the roots to end, and end by force whatever is left of the tree."""
        members = self.members()
        _signal([root.pid for root in self.roots if root.poll() is None], signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        while (left := [pid for pid in members if _started(pid) == self._seen[pid]]) and time.monotonic() < deadline:
            for root in self.roots:
                root.poll()
            time.sleep(0.05)
        _signal(left, signal.SIGKILL)
        for root in self.roots:
            root.wait()


def end_in_order() -> None:
    """Make SIGTERM an ordinary end, so that everything that was started is stopped."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))


def spawn(name: str, command: Sequence[str | Path], *, folder: Path, changes: Mapping[str, str], port: int, cwd: Path = ROOT) -> Server:
    """Start one process that listens on ``port`` by itself and makes its own workers."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = child.start(command, output=output, environ=os.environ | changes, cwd=cwd)
    return Server(name, port, [process], log)


def spawn_sharing(name: str, command: Sequence[str | Path], *, folder: Path, changes: Mapping[str, str]) -> Server:
    """Start ``PROCESSES`` processes on one listening socket, whose number is the command's last argument."""
    log = folder / f"{name}.log"
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock, log.open("ab") as output:
        sock.setblocking(False)
        port: int = sock.getsockname()[1]
        environ = os.environ | changes
        processes = [child.start([*command, str(sock.fileno())], output=output, environ=environ, pass_fds=[sock.fileno()], cwd=ROOT) for _ in range(PROCESSES)]
    return Server(name, port, processes, log)


def free_port() -> int:
    """Give a port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for each in path.read_text().split():
                found += _tree(int(each))
    return found


def _stat(pid: int) -> list[str]:
    """Give the fields of /proc/pid/stat from the state on; empty for a process that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def _started(pid: int) -> str:
    """Give when a process began, which tells it from a later one of the same id; empty if it does not live."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def _pss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
