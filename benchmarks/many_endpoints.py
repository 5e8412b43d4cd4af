"""One process, 200 endpoints with a forest of 3 MB each, and a budget for a part of them: what stays bounded, and what loading on demand costs.

One caller asks one row after the other, the endpoint of rank n 1/n as often as the first; all endpoints keep their answers,
and no row comes twice, so the caches grow too. Run: ``python -m benchmarks.many_endpoints [--write] [--requests 3000]``.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click
import httpx
import numpy as np
import psycopg

from benchmarks import forests
from benchmarks.serve.load import Trouble
from benchmarks.serve.processes import ROOT, Server, end_in_order, free_port, spawn
from benchmarks.serve.signalbox import HEADERS, KEY_ENTRY, Home, home, publish_table, store
from benchmarks.tables import put_section
from serving.table import CachePolicy, EndpointEntry, RouteTable, SlotEntry

_HEADING = "Two hundred endpoints in one process"
_ENDPOINTS = 200
_SIZE_BYTES = 3 * 2**20
_BUDGET_BYTES = 512 * 2**20
_ANSWER_BYTES = 2**20
_PARTS = 6
_PATIENCE_S = 600


@dataclass
class Part:
    """A stretch of requests: what those took whose build was in memory, what the others, and what the process had at the end."""

    hits_ms: list[float] = field(default_factory=list)
    loads_ms: list[float] = field(default_factory=list)
    memory_mb: float = 0.0


@click.command()
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
@click.option("--requests", default=3000, help="Requests in all.")
def main(*, write: bool, requests: int) -> None:
    """Measure, print, and write."""
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="signalbox-many-", ignore_cleanup_errors=True) as name, home(folder := Path(name)) as place:
        publish_table(place, _table(place))
        port = free_port()
        limits = {
            "SIGNALBOX_BUILD_MEMORY_BYTES": str(_BUDGET_BYTES),
            "SIGNALBOX_ANSWER_MEMORY_BYTES": str(_ANSWER_BYTES),
            "SIGNALBOX_DATAPLANE_PROCESSES": "1",
            "SIGNALBOX_GRPC_PORT": "0",
        }
        command = [sys.executable, "-m", "serving.dataplane", "--host", "127.0.0.1", "--port", str(port)]
        box = spawn("Signalbox", command, folder=folder, changes=place.environ | limits, port=port)
        try:
            text = _section(_measure(box, requests), _states(place))
        finally:
            box.stop()
    click.echo(text)
    if write:
        put_section(ROOT / "docs" / "benchmarks.md", _HEADING, text)


def _table(place: Home) -> RouteTable:
    builds = [store(place, forests.forest(_SIZE_BYTES, seed), "forest", seed, forests.SIGNATURE) for seed in range(1, _ENDPOINTS + 1)]
    endpoints = [
        EndpointEntry(
            id=f"forest-{build.version}",
            name=f"forest-{build.version}",
            revision=1,
            slots=(SlotEntry(name="blue", build_digest=build.digest, model="forest", version=build.version, weight=100, live=True),),
            cache=CachePolicy(ttl_s=3600),
        )
        for build in builds
    ]
    return RouteTable(revision=1, published_at=time.time(), endpoints=tuple(endpoints), builds=tuple(builds), keys=(KEY_ENTRY,))


def _measure(box: Server, requests: int) -> list[Part]:
    """Give the parts; the first has no requests: the process has just begun, and has had every build in memory once."""
    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, _ENDPOINTS + 1)
    order = random.choice(_ENDPOINTS, requests, p=shares / shares.sum()) + 1
    with httpx.Client(base_url=f"http://127.0.0.1:{box.port}", headers=HEADERS, timeout=30) as client, box.log.open() as log:
        _await_ready(box, client)
        parts = [Part(memory_mb=box.memory_mb()[0])]
        log.read()
        for some in np.array_split(order, _PARTS):
            part = Part()
            for number in some:
                took_ms = _ask(client, int(number), random.random(forests.FEATURES, dtype=np.float32))
                (part.loads_ms if "was loaded in" in log.read() else part.hits_ms).append(took_ms)
            part.memory_mb = box.memory_mb()[0]
            parts.append(part)
    time.sleep(3)  # a last heartbeat
    return parts


def _await_ready(box: Server, client: httpx.Client) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if client.get("/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        if not box.is_running or time.monotonic() > until:
            raise Trouble(f"does not become ready: {box.last_words()}")
        time.sleep(0.2)


def _ask(client: httpx.Client, number: int, row: np.ndarray) -> float:
    tensor = {"name": "X", "shape": [1, forests.FEATURES], "datatype": "FP32", "data": row.tolist()}
    begun = time.perf_counter()
    answer = client.post(f"/v2/models/forest-{number}/infer", json={"inputs": [tensor]})
    took_ms = (time.perf_counter() - begun) * 1000
    if answer.status_code != 200:
        raise Trouble(f"forest-{number} answers {answer.text[:160]}")
    return took_ms


def _states(place: Home) -> list[dict[str, Any]]:
    """Give what the process says of its builds."""
    with psycopg.connect(place.url) as connection:
        row = connection.execute("SELECT builds FROM serving_dataplaneprocess ORDER BY seen_at DESC LIMIT 1").fetchone()
    builds: list[dict[str, Any]] = row[0] if row else []
    return builds


def _section(parts: list[Part], builds: list[dict[str, Any]]) -> str:
    command = " ".join(["python -m benchmarks.many_endpoints", *sys.argv[1:]])
    loaded = [build["memory_bytes"] for build in builds if build["state"] == "loaded"]
    whole_mb, loaded_mb = sum(build["memory_bytes"] for build in builds) >> 20, sum(loaded) >> 20
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = [
        f"`{command}`: {_ENDPOINTS} forests of {_SIZE_BYTES >> 20} MB, which loaded all at once would take",
        f"{whole_mb:,} MB, in one process with a budget of {_BUDGET_BYTES >> 20} MB for builds and {_ANSWER_BYTES >> 20} MB for kept answers. At the end",
        f"{len(loaded)} were loaded, with {loaded_mb} MB. One caller; the endpoint of rank n is asked 1/n as often as the first.",
        f"{machine}, load average {os.getloadavg()[0]:.1f} at the end.",
        "",
        "| requests | build in memory: requests | p50 ms | p99 ms | loaded on demand: requests | p50 ms | p99 ms | process MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    done = 0
    for part in parts:
        done += len(part.hits_ms) + len(part.loads_ms)
        lines.append(f"| {done:,} | {_cells(part.hits_ms)} | {_cells(part.loads_ms)} | {part.memory_mb:.0f} |")
    return "\n".join(lines)


def _cells(times_ms: list[float]) -> str:
    if not times_ms:
        return "0 | | "
    p50, p99 = np.percentile(times_ms, [50, 99])
    return f"{len(times_ms):,} | {p50:.2f} | {p99:.1f}"


if __name__ == "__main__":
    main()
