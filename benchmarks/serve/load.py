"""The load: what a request is, wrk, and what one run of it found."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.serve.processes import Server

_START_PATIENCE_S = 120
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
CONNECTIONS = (1, 16, 64)


class Trouble(Exception):
    """A server does not start, does not answer, or answers wrongly; the text goes into its row."""


@dataclass(frozen=True, slots=True)
class Request:
    """One row in the form that the server wants; ``read`` gives the numbers of its answer."""

    path: str
    body: bytes
    headers: dict[str, str]
    read: Callable[[httpx.Response], list[float]]


class Figure(NamedTuple):
    """One run: what the clients saw, what its requests cost the server's processes, and the floor of the same seconds."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    failed: int
    floor_per_s: float


@dataclass
class Case:
    """One row of the table: a request to a server, and what was measured, by the number of connections."""

    name: str
    server: Server
    request: Request
    figures: dict[int, list[Figure]] = field(default_factory=dict)
    memory_mb: float = 0.0
    processes: int = 0
    trouble: str = ""

    def median(self, connections: int, name: str) -> float | None:
        """Give the median of a figure; None if it was never measured."""
        figures = self.figures.get(connections, [])
        return statistics.median(getattr(figure, name) for figure in figures) if figures else None

    def ratio(self, connections: int) -> float | None:
        """Give the median of the shares of the floor, each of the same seconds."""
        shares = [figure.per_s / figure.floor_per_s for figure in self.figures.get(connections, []) if figure.floor_per_s]
        return statistics.median(shares) if shares else None


def need_wrk() -> None:
    """Leave with a hint if there is no wrk."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing. On Debian and Ubuntu: apt-get install wrk. On macOS: brew install wrk.")


def await_answer(case: Case, expected: list[float]) -> None:
    """Return when the server has given the right answer so often in a row that each of its processes has; raises Trouble."""
    deadline = time.monotonic() + _START_PATIENCE_S
    right = 0
    while right <= 8:
        if not case.server.is_running or time.monotonic() > deadline:
            raise Trouble(f"does not start: {case.server.last_words()}")
        found = _answer(case)
        if found is None:
            right = 0
            time.sleep(0.1)
            continue
        if not np.allclose(found, expected, rtol=1e-5, atol=1e-5):
            raise Trouble(f"answers {found}, and scikit-learn {expected}")
        right += 1


def _answer(case: Case) -> list[float] | None:
    request = case.request
    try:
        response = httpx.post(f"http://127.0.0.1:{case.server.port}{request.path}", content=request.body, headers=request.headers, timeout=10)
    except httpx.TransportError:
        return None
    return [float(value) for value in np.ravel(request.read(response))] if response.status_code == 200 else None


def run(case: Case, connections: int, seconds: int, folder: Path, floor_per_s: float = 0.0, settled: Callable[[], None] = lambda: None) -> Figure:
    """Run wrk once against a case, and keep the figure; raises Trouble if the server is gone.

    What the server does until ``settled`` returns counts as processor time of the requests.
    """
    request, server = case.request, case.server
    script = _script(request, folder)
    before = server.cpu_s()
    url = f"http://127.0.0.1:{server.port}{request.path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    settled()
    cpu_s = server.cpu_s() - before
    if not server.is_running:
        raise Trouble(f"died: {server.last_words()}")
    if done.returncode:
        raise Trouble(f"wrk failed: {done.stderr.strip()[:160]}")
    figure = _figure(done.stdout, cpu_s, floor_per_s)
    case.figures.setdefault(connections, []).append(figure)
    return figure


def _script(request: Request, folder: Path) -> Path:
    """Write wrk's script; the body lies in a file of its own, since it may be binary."""
    body, script = folder / "body", folder / "post.lua"
    body.write_bytes(request.body)
    lines = ['wrk.method = "POST"', f'wrk.body = io.open("{body}", "rb"):read("*a")']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in request.headers.items()]
    script.write_text("\n".join(lines))
    return script


def _figure(text: str, cpu_s: float, floor_per_s: float) -> Figure:
    requests = int(_found(r"(\d+) requests in", text))
    if not requests:
        raise Trouble("not one request was answered")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Figure(
        float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        _ms(_found(r"\s50%\s+(\S+)", text)),
        _ms(_found(r"\s99%\s+(\S+)", text)),
        cpu_s / requests * 1e6,
        (sum(map(int, errors.groups())) if errors else 0) + (int(refused[1]) if refused else 0),
        floor_per_s,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise Trouble(f"wrk answered without {pattern!r}: {text[:160]}")
    return match[1]


def _ms(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    if match is None:
        raise Trouble(f"wrk gave the time {text!r}")
    return float(match[1]) * _UNITS[match[2]]
