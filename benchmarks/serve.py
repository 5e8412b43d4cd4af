"""Times single-row predictions: Signalbox with everything on, hand-written servers, and the floor, interleaved.

Needs ``wrk``. The peers get an environment of their own under var/benchmarks. All have two processes and share the
cores with wrk, so figures are ratios to the floor of the same minute. ``--write`` puts the section "Serving" into
docs/benchmarks.md. Run: ``python -m benchmarks.serve [--write] [--seconds 5] [--rounds 3] [--policy fast]``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click
import httpx
import psycopg

from access.key_format import generate, secret_digest, text_of
from benchmarks.serve_models import BenchModel, make_models
from benchmarks.tables import put_section
from core.digests import artifact_path, digest_of
from core.embedded import postgres
from serving import table as route_table
from serving.table import BuildEntry, EndpointEntry, KeyEntry, RouteTable, SlotEntry

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
PAGE_FILE = ROOT / "docs" / "benchmarks.md"
HEADING = "Serving"
PEERS = ROOT / "var" / "benchmarks" / "peers"
PEER_PACKAGES = ["fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "scikit-learn", "joblib", "numpy"]
PATH = "/v2/models/bench/infer"
CONNECTIONS = (1, 16, 64)
PROCESSES = 2
KEY = generate()


class Figure(NamedTuple):
    """One run of wrk, and what its requests cost the server's processes."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    failed: int


@dataclass
class Target:
    """A running server: where, and which processes are its."""

    name: str
    port: int
    processes: list[subprocess.Popen[bytes]]
    figures: dict[int, list[Figure]] = field(default_factory=dict)

    def cpu_s(self) -> float:
        pids = [pid for process in self.processes for pid in (process.pid, *_children(process.pid))]
        return sum(_cpu_s(pid) for pid in pids)

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=30)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *_children(child)]
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spawn(name: str, command: list[str], folder: Path, changes: dict[str, str], *, shared: bool) -> Target:
    """Start a server: our own processes share a socket, the peers make their own workers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    environment = os.environ | changes
    with (folder / f"{name}.log").open("ab") as log:
        options = {"cwd": ROOT, "env": environment, "stdout": log, "stderr": log, "start_new_session": True}
        if shared:
            sock.listen(2048)
            sock.setblocking(False)
            processes = [subprocess.Popen([*command, str(sock.fileno())], pass_fds=[sock.fileno()], **options) for _ in range(PROCESSES)]  # type: ignore[call-overload]
            sock.close()
        else:
            sock.close()
            processes = [subprocess.Popen([*command, "--port", str(port), "--workers", str(PROCESSES)], **options)]  # type: ignore[call-overload]
    return Target(name, port, processes)


def _peer(name: str, module: str, folder: Path, model: Path) -> Target:
    command = [str(PEERS / "bin" / "uvicorn"), "--app-dir", str(HERE), "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return _spawn(name, [*command, f"{module}:app"], folder, {"MODEL": str(model), "OMP_NUM_THREADS": "1"}, shared=False)


def make_peers() -> None:
    """Make the peers' environment, once."""
    if (PEERS / "bin" / "uvicorn").exists():
        return
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(PEERS)], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(PEERS / "bin" / "python"), *PEER_PACKAGES], check=True)


def publish(url: str, model: BenchModel, folder: Path, policy: str) -> None:
    """Put the model behind the endpoint ``bench``, as the console would."""
    digest = digest_of(model.onnx)
    path = artifact_path(folder / "artifacts", digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.onnx)
    build = BuildEntry(digest=digest, kind="onnx", size_bytes=len(model.onnx), model="bench", version=1, signature=model.signature)
    slot = SlotEntry(name="blue", build_digest=digest, model="bench", version=1, weight=100, live=True)
    endpoint = EndpointEntry(id="bench", name="bench", revision=1, slots=(slot,), log_policy=policy)
    key = KeyEntry(id=KEY.id, secret_digest=secret_digest(KEY.secret), name="bench", scopes=("predict",))
    document = RouteTable(revision=1, published_at=time.time(), endpoints=(endpoint,), builds=(build,), keys=(key,))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO serving_publishedtable (document, published_at) VALUES (%s, now())", [route_table.encode(document)])


def wrk(target: Target, connections: int, seconds: int, script: Path) -> Figure:
    """Run wrk once."""
    before = target.cpu_s()
    url = f"http://127.0.0.1:{target.port}{PATH}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", str(script), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu_s = target.cpu_s() - before
    requests = int(_found(r"(\d+) requests in", text))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Figure(
        float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        _ms(_found(r"\s50%\s+(\S+)", text)),
        _ms(_found(r"\s99%\s+(\S+)", text)),
        cpu_s / max(requests, 1) * 1e6,
        int(failed[1]) if failed else 0,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk answered without {pattern!r}:\n{text}")
    return match[1]


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]  # wrk's own form
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def _wait(target: Target, body: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.post(f"http://127.0.0.1:{target.port}{PATH}", content=body, headers=_headers()).status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"{target.name} does not answer.")


def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {text_of(KEY)}", "Content-Type": "application/json"}


@contextlib.contextmanager
def _running(model: BenchModel, folder: Path, url: str, policy: str) -> Iterator[list[Target]]:
    onnx = folder / "model.onnx"
    onnx.write_bytes(model.onnx)
    publish(url, model, folder, policy)
    targets = [
        _spawn("floor", [sys.executable, str(HERE / "floor.py")], folder, {}, shared=True),
        _spawn("Signalbox", [sys.executable, "-m", "serving.dataplane", "--fd"], folder, {"SIGNALBOX_VAR_DIR": str(folder), "DATABASE_URL": url}, shared=True),
        _peer("FastAPI + onnxruntime", "peer_onnx", folder, onnx),
        _peer("FastAPI + scikit-learn", "peer_sklearn", folder, model.joblib),
    ]
    try:
        for target in targets:
            _wait(target, model.body)
        time.sleep(1)
        yield targets
    finally:
        for target in targets:
            target.stop()


def measure(model: BenchModel, folder: Path, url: str, chosen: argparse.Namespace) -> list[Target]:
    """Run every server at every number of connections, round by round."""
    script = folder / "post.lua"
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in _headers().items()]
    script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = [[{model.body}]]", *lines]))
    with _running(model, folder, url, chosen.policy) as targets:
        for connections in CONNECTIONS:
            for _ in range(chosen.rounds):
                for target in targets:
                    figure = wrk(target, connections, chosen.seconds, script)
                    target.figures.setdefault(connections, []).append(figure)
        return targets


def _median(target: Target, connections: int, index: int) -> float:
    return statistics.median(figure[index] for figure in target.figures[connections])


def rows_of(targets: list[Target]) -> list[str]:
    """Write one table: a line per server."""
    floor = targets[0]
    lines = [
        "| server | c=1 p50 ms | c=16 req/s | c=64 req/s | c=16 p99 ms | CPU us/req | of the floor, c=16 / 64 | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target in targets:
        ratios = [_median(target, c, 0) / _median(floor, c, 0) for c in (16, 64)]
        failed = sum(figure.failed for figures in target.figures.values() for figure in figures)
        lines.append(
            f"| {target.name} | {_median(target, 1, 1):.2f} | {_median(target, 16, 0):,.0f} | {_median(target, 64, 0):,.0f} | {_median(target, 16, 2):.1f} "
            f"| {_median(target, 16, 3):.0f} | {ratios[0]:.2f} / {ratios[1]:.2f} | {failed} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--policy", default="fast", choices=["fast", "durable", "off"])
    chosen = parser.parse_args()
    make_peers()
    folder = Path(tempfile.mkdtemp(prefix="signalbox-serve-"))
    lines = [
        f"`python -m benchmarks.serve --write`: one row per request, {PROCESSES} processes each, wrk on the same {os.cpu_count()} cores,",
        f"{chosen.rounds} interleaved rounds of {chosen.seconds} s, medians. The floor is a raw ASGI application that sends a fixed answer.",
        f"Signalbox checks the key, validates, logs (`{chosen.policy}`) and counts; the hand-written servers do none of that.",
        "",
    ]
    server = postgres.start(var_dir=folder, run_dir=folder / "run")
    url = f"postgresql://signalbox@/signalbox?host={folder}/run"
    try:
        changes = {"DATABASE_URL": url, "SIGNALBOX_VAR_DIR": str(folder)}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0", "--skip-checks"], cwd=ROOT, env=os.environ | changes, check=True)
        for model in make_models(folder):
            table = rows_of(measure(model, folder, url, chosen))
            click.echo("\n".join([model.title, *table, ""]))
            lines += [f"### {model.title.capitalize()}", *table, ""]
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.write:
        put_section(PAGE_FILE, HEADING, "\n".join(lines))


if __name__ == "__main__":
    main()
