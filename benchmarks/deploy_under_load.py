"""Times a light endpoint under steady load while a forest of 100 MB is deployed, loaded, warmed, and taken away again.

Both processes load it, one after the other. A caller asks at fixed times, so that a pause of the server counts for every
call that falls into it. Run: ``python -m benchmarks.deploy_under_load [--write] [--seconds 10]``.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click
import msgspec
import numpy as np
import uvloop

from benchmarks import forests
from benchmarks.serve.load import Trouble
from benchmarks.serve.models import make_models
from benchmarks.serve.processes import PROCESSES, ROOT, Server, end_in_order, spawn_sharing
from benchmarks.serve.signalbox import HEADERS, Home, home, publish, publish_table, store, table_of, tensor_json
from benchmarks.tables import put_section
from serving.table import EndpointEntry, RouteTable, SlotEntry

_HEADING = "Deploying a large build under load"
_CALLERS = (1, 16)
_PERIOD_S = 0.01
_SIZE_BYTES = 100 * 2**20
_SETTLES_S = 3.0
_PATIENCE_S = 180


@dataclass
class Phase:
    """What the callers saw in a stretch of time, and what a process had in memory at its end."""

    name: str
    callers: int
    latencies_ms: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    memory_mb: float = 0.0


class Caller(asyncio.Protocol):
    """One connection that asks every ``_PERIOD_S``. A call that had to wait for the answer before it began when it was due."""

    def __init__(self, request: bytes, phase: Phase) -> None:
        self._request, self._phase = request, phase
        self._loop = asyncio.get_running_loop()
        self._due = self._begun = 0.0
        self._received = b""
        self.stops = False
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._due = time.perf_counter()
        self._ask(self._due)

    def _ask(self, begun: float) -> None:
        self._begun = begun
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, whole, body = self._received.partition(b"\r\n\r\n")
        if not whole or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        now = time.perf_counter()
        self._received = b""
        self._phase.latencies_ms.append((now - self._begun) * 1000)
        self._phase.failed += not head.startswith(b"HTTP/1.1 200")
        self._due += _PERIOD_S
        if self.stops:
            self._transport.close()
        elif self._due > now:
            self._loop.call_later(self._due - now, lambda: self._ask(time.perf_counter()))
        else:
            self._ask(self._due)

    def connection_lost(self, error: Exception | None) -> None:
        self._phase.failed += not self.stops
        self.ended.set_result(None)


@click.command()
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
@click.option("--seconds", default=10.0, help="Seconds before and after the deployment.")
def main(*, write: bool, seconds: float) -> None:
    """Measure, print, and write."""
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="signalbox-deploy-", ignore_cleanup_errors=True) as name, home(folder := Path(name)) as place:
        box = spawn_sharing("Signalbox", [sys.executable, "-m", "serving.dataplane", "--fd"], folder=folder, changes=place.environ)
        try:
            text = _section(*_measure(place, box, seconds))
        finally:
            box.stop()
    click.echo(text)
    if write:
        put_section(ROOT / "docs" / "benchmarks.md", _HEADING, text)


def _measure(place: Home, box: Server, seconds: float) -> tuple[list[Phase], list[float]]:
    """Give the phases, and how long each process took to load the forest each time."""
    light = make_models(place.folder)[0]
    table = table_of([light], "fast")
    publish(place, [light], "fast")
    request = _request(light.name, tensor_json(light))
    phases: list[Phase] = []
    for callers in _CALLERS:
        _await_log(box, r"Ready with route table", PROCESSES)
        larger = _with_forest(place, table, seed=callers)

        def deploy(larger: RouteTable = larger, turn: int = len(phases) // 4 + 1) -> None:
            publish_table(place, larger)
            _await_log(box, r"forest version \d+ was loaded", turn * PROCESSES)
            time.sleep(_SETTLES_S)

        def empty() -> None:
            publish_table(place, table)
            time.sleep(_SETTLES_S)

        steps: list[tuple[str, Callable[[], None]]] = [
            ("before", lambda: time.sleep(seconds)),
            ("while it is loaded and warmed", deploy),
            ("with it", lambda: time.sleep(seconds)),
            ("while it is taken away", empty),
        ]
        for name, action in steps:
            phases.append(uvloop.run(_run(Phase(name, callers), box, request, action)))
            click.echo(_row(phases[-1]), err=True)
    return phases, [float(took) for took in re.findall(r"forest version \d+ was loaded in ([\d.]+) s", box.log.read_text())]


async def _run(phase: Phase, box: Server, request: bytes, action: Callable[[], None]) -> Phase:
    """Ask until the action has ended."""
    loop = asyncio.get_running_loop()
    callers = [(await loop.create_connection(lambda: Caller(request, phase), "127.0.0.1", box.port))[1] for _ in range(phase.callers)]
    begun = time.perf_counter()
    await asyncio.to_thread(action)
    phase.seconds = time.perf_counter() - begun
    for caller in callers:
        caller.stops = True
    await asyncio.gather(*(caller.ended for caller in callers))
    phase.memory_mb = box.memory_mb()[0] / PROCESSES
    return phase


def _await_log(box: Server, pattern: str, times: int) -> None:
    """Return when the processes have written it so often; raises Trouble."""
    until = time.monotonic() + _PATIENCE_S
    while len(re.findall(pattern, box.log.read_text())) < times:
        if not box.is_running or time.monotonic() > until:
            raise Trouble(f"no {pattern!r} in its log: {box.last_words()}")
        time.sleep(0.1)


def _with_forest(place: Home, table: RouteTable, seed: int) -> RouteTable:
    """Give the table with an endpoint of a forest that no process has had."""
    build = store(place, forests.forest(_SIZE_BYTES, seed), "forest", seed, forests.SIGNATURE)
    slot = SlotEntry(name="blue", build_digest=build.digest, model="forest", version=seed, weight=100, live=True)
    endpoint = EndpointEntry(id="forest", name="forest", revision=seed, slots=(slot,))
    return msgspec.structs.replace(table, endpoints=(*table.endpoints, endpoint), builds=(*table.builds, build))


def _request(endpoint: str, body: bytes) -> bytes:
    head = {"Host": "benchmark", **HEADERS, "Content-Length": str(len(body))}
    lines = [f"POST /v2/models/{endpoint}/infer HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _section(phases: list[Phase], loads_s: list[float]) -> str:
    command = " ".join(["python -m benchmarks.deploy_under_load", *sys.argv[1:]])
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = [
        f"`{command}`: each caller asks a logistic regression every {_PERIOD_S * 1000:.0f} ms, from one client on the same cores ({machine}),",
        f"while a forest of {_SIZE_BYTES >> 20} MB is deployed at another endpoint. {PROCESSES} processes load it, one after the other, in",
        f"{' / '.join(f'{took:.1f}' for took in loads_s)} s. What falls into a pause of the server is counted from when it was due.",
        f"The load average was {os.getloadavg()[0]:.1f} at the end.",
        "",
        "| callers | when | seconds | calls | p50 ms | p99 ms | max ms | failed | MB a process |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_row, phases),
    ]
    return "\n".join(lines)


def _row(phase: Phase) -> str:
    p50, p99 = np.percentile(phase.latencies_ms, [50, 99])
    times = f"{p50:.2f} | {p99:.1f} | {max(phase.latencies_ms):.0f}"
    return f"| {phase.callers} | {phase.name} | {phase.seconds:.1f} | {len(phase.latencies_ms):,} | {times} | {phase.failed} | {phase.memory_mb:.0f} |"


if __name__ == "__main__":
    main()
