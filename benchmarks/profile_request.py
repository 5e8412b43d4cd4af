"""Shows where the processor time of one prediction goes, module by module and function by function, without sockets.

In one process real connections of the short way get the bytes of a request from a transport that keeps nothing, and a
timer of the processor's time samples what runs: unlike a tracing profiler it does not slow small functions down. The
log's thread is timed apart. What a request costs beyond this is the kernel's and uvloop's part, which the floor of
``benchmarks.serve`` has too. Run: ``python -m benchmarks.profile_request [--model logistic] [--connections 16]``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click
import uvicorn
import uvloop
from uvicorn.server import ServerState

from benchmarks.batch import binary_request, rows_of
from benchmarks.serve.models import NAMES, BenchModel, make_models
from benchmarks.serve.processes import ROOT
from benchmarks.serve.signalbox import HEADERS, table_of, tensor_json
from core.ids import uuid7
from serving.dataplane import columns
from serving.dataplane.batch import Batch
from serving.dataplane.builds import Build, Builds, CompiledBuild
from serving.dataplane.counts import TrafficCounts
from serving.dataplane.engine import Engine
from serving.dataplane.live import Routes, Slot
from serving.dataplane.log import PredictionLog
from serving.dataplane.postgres import Link
from serving.dataplane.process import prepare
from serving.dataplane.protocol import bound_to
from serving.dataplane.spool import Spool
from serving.dataplane.tally import Tally
from serving.runtimes.onnx import OnnxBuild

_SAMPLE_S = 0.001
_KEPT = 64
"""About as many batches as come between two writes."""
_LOOP = "the loop itself"


class _Log(PredictionLog):
    """The log without its thread: it keeps the latest batches, for timing what that thread does with them."""

    def append(self, slot: Slot, batch: Batch, on_written: Any = None) -> None:
        super().append(slot, batch, on_written)
        if len(self._entries) > _KEPT:
            self._entries.popleft()

    def encode_us(self) -> float:
        """Give the processor time per request of making a segment of what was kept."""
        if not self._entries:
            return 0.0
        slot, batches = self._entries[0][0], [batch for _, batch, _ in self._entries]
        begun = time.thread_time()
        for _ in range(20):
            columns.segment_of(slot, batches)
        return (time.thread_time() - begun) / 20 / sum(len(batch.calls) for batch in batches) * 1e6


class _Transport(asyncio.Transport):
    """Counts the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answers += 1
        self.last = data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...


class _Sampler:
    """Counts, at ticks of the processor's time, which function of the product was running, by module and name."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> _Sampler:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _SAMPLE_S, _SAMPLE_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        while frame is not None:
            path = frame.f_code.co_filename
            if "/uvicorn/" in path or (path.startswith(str(ROOT)) and "/benchmarks/" not in path and "/.venv/" not in path):
                self.seen[path.split("/site-packages/")[-1].removeprefix(f"{ROOT}/"), frame.f_code.co_qualname] += 1
                return
            frame = frame.f_back
        self.seen[_LOOP, ""] += 1


@click.command()
@click.option("--model", "name", default=NAMES[0], type=click.Choice(NAMES))
@click.option("--connections", default=16, help="Requests that arrive in one turn of the loop.")
@click.option("--rows", default=1, help="Rows per request; more than one are sent and answered as binary tensors.")
@click.option("--seconds", default=8.0, help="Processor time to sample.")
@click.option("--policy", default="fast", type=click.Choice(["fast", "off"]), help="The log policy.")
def main(*, name: str, connections: int, rows: int, seconds: float, policy: str) -> None:
    """Profile, and print."""
    prepare()
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        model = next(each for each in make_models(folder) if each.name == name)
        log = _Log(Link("", "profile"), Spool(folder / "spool"), Tally(folder, uuid7()))
        click.echo(uvloop.run(_profile(model, _bytes_of(model, rows), log, connections, seconds, policy)))


async def _profile(model: BenchModel, request: bytes, log: _Log, connections: int, seconds: float, policy: str) -> str:
    engine = _engine(model, log, policy)
    protocols = _connections(engine, connections)
    await _rounds(protocols, request, seconds / 10)
    sampler = _Sampler()
    with sampler:
        count, used_s = await _rounds(protocols, request, seconds)
    engine.close()
    return _report(sampler.seen, used_s / count * 1e6, log.encode_us())


def _engine(model: BenchModel, log: _Log, policy: str) -> Engine:
    table = table_of([model], policy)
    builds = Builds()
    for entry in table.builds:
        runtime = OnnxBuild(model.onnx, entry.signature)
        build = Build(entry, lambda _: None, runtime.facts(0))
        build.runtime = runtime
        builds.add(CompiledBuild(entry, build))
    engine = Engine(log, TrafficCounts(uuid7()), asyncio.get_running_loop())
    engine.adopt(Routes(table, builds, {}, None))
    return engine


def _connections(engine: Engine, count: int) -> list[Any]:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None: ...

    config = uvicorn.Config(app, http=bound_to(engine), ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")]
    protocols = [config.http_protocol_class(config=config, server_state=state, app_state={}) for _ in range(count)]  # type: ignore[call-arg]  # as uvicorn does
    for protocol in protocols:
        protocol.connection_made(_Transport())  # type: ignore[arg-type]  # as above
    return protocols


def _bytes_of(model: BenchModel, rows: int) -> bytes:
    body, given = tensor_json(model), HEADERS
    if rows > 1:
        batch = binary_request(model.name, rows_of(model, rows), len(model.expected))
        body, given = batch.body, batch.headers
    headers = {"Host": "127.0.0.1:8701", **given, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /v2/models/{model.name}/infer HTTP/1.1\r\n{head}\r\n".encode() + body


async def _rounds(protocols: list[Any], request: bytes, seconds: float) -> tuple[int, float]:
    """Let every connection get a request and answer it, again and again; gives how many, and the processor time."""
    last = protocols[-1].transport
    begun, before, rounds = time.thread_time(), last.answers, 0
    while (used := time.thread_time() - begun) < seconds:
        for protocol in protocols:
            protocol.data_received(request)
        rounds += 1
        while last.answers < before + rounds:  # noqa: ASYNC110  # turns of the loop are what is measured
            await asyncio.sleep(0)
    if not last.last.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"The data plane answers {bytes(last.last)!r}.")
    return rounds * len(protocols), used


def _report(seen: Counter[tuple[str, str]], request_us: float, log_us: float) -> str:
    total = seen.total()
    modules: Counter[str] = Counter()
    for (module, _), samples in seen.items():
        modules[module] += samples
    each = request_us / total
    lines = [
        f"{request_us:.2f} us per request from its bytes to its answer's, {total:,} samples; then {log_us:.2f} us in the log's thread, without the insert.",
        "",
        *(f"{samples * each:7.2f} us {samples / total:6.1%}  {module}" for module, samples in modules.most_common()),
        "",
        *(f"{samples * each:7.2f} us {samples / total:6.1%}  {module} {name}" for (module, name), samples in seen.most_common(40)),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
