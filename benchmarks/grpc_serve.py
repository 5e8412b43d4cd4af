"""Times single-row predictions over gRPC: Signalbox and MLServer, two processes each, asked in turns by one asyncio client.

The client takes more processor time than a server, so the figure to compare is the server's time per request.
Run: ``python -m benchmarks.grpc_serve [--write] [--seconds 3] [--rounds 2]``. The first run installs MLServer.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click
import grpc
import numpy as np

from benchmarks.serve.load import Figure, Trouble
from benchmarks.serve.models import BenchModel, make_models
from benchmarks.serve.peers import SLOW
from benchmarks.serve.processes import PROCESSES, ROOT, Server, end_in_order, spawn_sharing
from benchmarks.serve.signalbox import HEADERS, home, publish
from benchmarks.tables import put_section
from serving.dataplane.grpc import inference_pb2

_HEADING = "gRPC"
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_CALLERS = (1, 16, 64)
_CHANNELS = 8
_PATIENCE_S = 120


@dataclass
class Target:
    """A running server, its port for gRPC, and the bytes of the request that it wants."""

    name: str
    servers: list[Server]
    port: int
    request: bytes
    figures: dict[int, list[Figure]] = field(default_factory=dict)

    def cpu_s(self) -> float:
        return sum(server.cpu_s() for server in self.servers)


@click.command()
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
@click.option("--seconds", default=3.0, help="Seconds of one run.")
@click.option("--rounds", default=2, help="Rounds in turns.")
def main(*, write: bool, seconds: float, rounds: int) -> None:
    """Measure, print, and write."""
    end_in_order()
    folder = Path(tempfile.mkdtemp(prefix="signalbox-grpc-"))
    targets: list[Target] = []
    try:
        with home(folder) as place:
            model = make_models(folder)[0]
            publish(place, [model], "fast")
            try:
                ours = spawn_sharing("grpc", [sys.executable, "-m", "serving.dataplane.grpc", "--fd"], folder=folder, changes=place.environ)
                targets.append(Target("Signalbox", [ours], ours.port, _request(model, model.name, "")))
                peer = next(peer for peer in SLOW if peer.name == "MLServer").case(folder, model).server
                targets.append(Target("MLServer", [peer], _grpc_port_of_mlserver(folder), _request(model, "bench", "predict_proba")))
                asyncio.run(_measure(targets, model, seconds, rounds))
            finally:
                for target in targets:
                    for server in target.servers:
                        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = _section(targets, seconds, rounds)
    click.echo(text)
    if write:
        put_section(ROOT / "docs" / "benchmarks.md", _HEADING, text)


def _grpc_port_of_mlserver(folder: Path) -> int:
    port: int = json.loads((folder / "mlserver" / "settings.json").read_text())["grpc_port"]
    return port


def _request(model: BenchModel, name: str, output: str) -> bytes:
    request = inference_pb2.ModelInferRequest(model_name=name)
    tensor = request.inputs.add(name="X", datatype="FP32", shape=[1, len(model.row)])
    tensor.contents.fp32_contents.extend(model.row)
    if output:
        request.outputs.add(name=output)
    return request.SerializeToString()


async def _measure(targets: list[Target], model: BenchModel, seconds: float, rounds: int) -> None:
    for target in targets:
        await _await_answer(target, model.expected)
    for callers in _CALLERS:
        for _ in range(rounds):
            for target in targets:
                figure = await _run(target, callers, seconds)
                target.figures.setdefault(callers, []).append(figure)
                click.echo(f"{target.name}, {callers}: {figure.per_s:,.0f}/s, {figure.cpu_us:.0f} us", err=True)


def _channel(target: Target) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{target.port}", options=[("grpc.use_local_subchannel_pool", 1)])


async def _await_answer(target: Target, expected: list[float]) -> None:
    """Return when the server gives the right answer; raises Trouble."""
    until = time.monotonic() + _PATIENCE_S
    metadata = [("authorization", HEADERS["Authorization"])]
    while True:
        try:
            async with _channel(target) as channel:
                answer = inference_pb2.ModelInferResponse.FromString(await channel.unary_unary(_METHOD)(target.request, metadata=metadata, timeout=5))
            break
        except grpc.aio.AioRpcError as error:
            if time.monotonic() > until or not all(server.is_running for server in target.servers):
                raise Trouble(f"{target.name} does not answer: {error.details()}") from None
            await asyncio.sleep(0.3)
    found = np.frombuffer(answer.raw_output_contents[-1], "<f4") if answer.raw_output_contents else _contents(answer.outputs[-1])
    if not np.allclose(found, expected, rtol=1e-5, atol=1e-5):
        raise Trouble(f"{target.name} answers {found}, and scikit-learn {expected}")


def _contents(output: inference_pb2.ModelInferResponse.InferOutputTensor) -> list[float]:
    return list(output.contents.fp32_contents) or list(output.contents.fp64_contents)


async def _run(target: Target, callers: int, seconds: float) -> Figure:
    channels = [_channel(target) for _ in range(min(callers, _CHANNELS))]
    metadata = [("authorization", HEADERS["Authorization"])]
    times: list[float] = []
    failed = 0
    until = time.perf_counter() + seconds

    async def call(channel: grpc.aio.Channel) -> None:
        nonlocal failed
        ask = channel.unary_unary(_METHOD)
        while (begun := time.perf_counter()) < until:
            try:
                await ask(target.request, metadata=metadata, timeout=10)
            except grpc.aio.AioRpcError:
                failed += 1
            else:
                times.append(time.perf_counter() - begun)

    used, begun = target.cpu_s(), time.perf_counter()
    await asyncio.gather(*(call(channels[number % len(channels)]) for number in range(callers)))
    took, used = time.perf_counter() - begun, target.cpu_s() - used
    for channel in channels:
        await channel.close()
    if not times:
        raise Trouble(f"{target.name}: not one call was answered")
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return Figure(len(times) / took, float(p50), float(p99), used / len(times) * 1e6, failed, 0.0)


def _section(targets: list[Target], seconds: float, rounds: int) -> str:
    command = " ".join(["python -m benchmarks.grpc_serve", *sys.argv[1:]])
    lines = [
        f"`{command}`: logistic regression, one row per call, {PROCESSES} processes each, {rounds} rounds of {seconds:g} s in turns, medians at",
        f"{' / '.join(map(str, _CALLERS))} concurrent callers on up to {_CHANNELS} connections of one asyncio client.",
        f"It takes a core for itself: compare the processor time. The load average was {os.getloadavg()[0]:.1f} at the end.",
        "",
        "| server | calls/s | p50 ms | p99 ms | CPU us per call | failed |",
        "|---|---|---|---|---|---|",
    ]
    for target in targets:
        cells = [_cell(target, name, form) for name, form in (("per_s", ",.0f"), ("p50_ms", ".2f"), ("p99_ms", ".1f"), ("cpu_us", ".0f"))]
        failed = sum(figure.failed for figures in target.figures.values() for figure in figures)
        lines.append(f"| {target.name} | {' | '.join(cells)} | {failed} |")
    return "\n".join(lines)


def _cell(target: Target, name: str, form: str) -> str:
    return " / ".join(format(statistics.median(getattr(figure, name) for figure in target.figures[callers]), form) for callers in _CALLERS)


if __name__ == "__main__":
    main()
