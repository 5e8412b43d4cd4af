"""Scores 1,000 rows per request: the data plane, asked with binary tensors, against ONNX Runtime in one process.

Both run one row of requests after the other on one core, in turns. Ends with code 1 when a model reaches less than
``WANTED`` of what ``session.run`` alone does. Run: ``python -m benchmarks.batch [--write] [--policy fast]``.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click
import httpx
import numpy as np

from benchmarks.serve.load import Case, Request, await_answer, run
from benchmarks.serve.models import BenchModel, make_models
from benchmarks.serve.processes import ROOT, Server, end_in_order, spawn_sharing
from benchmarks.serve.signalbox import HEADERS, UNLOGGED, home, publish
from benchmarks.tables import put_section
from registry.convert import onnx_run

_HEADING = "Batch scoring"
ROWS = 1000
WANTED = 0.70
_CONNECTIONS = 4
"""Enough that the next request is read while one runs."""


class Row(NamedTuple):
    """Rows per second of processor time, of one core."""

    title: str
    alone: float
    served: float
    unlogged: float
    p50_ms: float


@click.command()
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
@click.option("--policy", default="fast", type=click.Choice(["fast", "durable", "off"]), help="The log policy of Signalbox.")
@click.option("--rounds", default=5, help="Rounds of a second each.")
def main(*, write: bool, policy: str, rounds: int) -> None:
    """Measure, print, judge, and write."""
    end_in_order()
    folder = Path(tempfile.mkdtemp(prefix="signalbox-batch-"))
    try:
        with home(folder) as place:
            models = make_models(folder)
            publish(place, models, policy)
            with _stopping(spawn_sharing("Signalbox", [sys.executable, "-m", "serving.dataplane", "--fd"], folder=folder, changes=place.environ)) as server:
                rows = [_measure(server, model, rounds, folder, folder / "dataplane" / "spool") for model in models]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = _section(rows, policy, rounds)
    click.echo(text)
    if write:
        put_section(ROOT / "docs" / "benchmarks.md", _HEADING, text)
    sys.exit(any(row.served < WANTED * row.alone for row in rows))


@contextmanager
def _stopping(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.stop()


def _measure(server: Server, model: BenchModel, rounds: int, folder: Path, spool: Path) -> Row:
    """Take turns: a second of ``session.run``, a second of requests, and whatever time the log of them takes to be in Postgres."""
    array = rows_of(model, ROWS)
    session = onnx_run.open_session(model.onnx)
    logged, unlogged = (Case(end, server, binary_request(model.name + end, array, len(model.expected))) for end in ("", UNLOGGED))
    alone = []
    for case in (logged, unlogged):
        await_answer(case, _answer_of(session, array))
    for _ in range(rounds):
        alone.append(_alone(session, array))
        for case in (logged, unlogged):
            run(case, _CONNECTIONS, 1, folder, settled=partial(_drained, spool))
    served = [1e6 * ROWS / (case.median(_CONNECTIONS, "cpu_us") or 1e6) for case in (logged, unlogged)]
    return Row(model.title, statistics.median(alone), *served, p50_ms=logged.median(_CONNECTIONS, "p50_ms") or 0)


def _drained(spool: Path) -> None:
    """Return when nothing waits to be logged."""
    time.sleep(0.5)
    while any(spool.glob("*.segment")):
        time.sleep(0.1)


def _alone(session: Any, array: np.ndarray) -> float:
    """Give the rows per second of processor time of ``session.run`` in pieces of the size that suits the model best."""
    best = 0.0
    for size in (64, 256, ROWS):
        pieces = [array[start : start + size] for start in range(0, ROWS, size)]
        begun, done = time.thread_time(), 0
        while (used := time.thread_time() - begun) < 1 / 3:
            for piece in pieces:
                session.run(None, {"X": piece})
            done += ROWS
        best = max(best, done / used)
    return best


def _answer_of(session: Any, array: np.ndarray) -> list[float]:
    values: list[float] = session.run(None, {"X": array})[-1].ravel().tolist()
    return values


def rows_of(model: BenchModel, rows: int) -> np.ndarray:
    """Give that many rows which are almost alike, within the bounds."""
    return np.repeat(np.array([model.row], np.float32), rows, axis=0) * np.linspace(1, 1.0001, rows, dtype=np.float32)[:, np.newaxis]


def binary_request(endpoint: str, array: np.ndarray, outputs: int) -> Request:
    """Give the infer request of ``array`` as a binary tensor, with a binary answer of so many values a row."""
    data = array.astype("<f4").tobytes()
    tensor = {"name": "X", "shape": list(array.shape), "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = HEADERS | {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    width = 4 * len(array) * outputs

    def read(response: httpx.Response) -> list[float]:
        values: list[float] = np.frombuffer(response.content[-width:], "<f4").tolist()
        return values

    return Request(f"/v2/models/{endpoint}/infer", head + data, headers, read)


def _section(rows: list[Row], policy: str, rounds: int) -> str:
    command = " ".join(["python -m benchmarks.batch", *sys.argv[1:]])
    lines = [
        f"`{command}`: requests of {ROWS:,} rows as binary tensors over {_CONNECTIONS} connections, against `session.run`",
        f"of the same rows in one process with one thread, in pieces of 64, 256 or {ROWS:,} rows, whichever is fastest. Rows per second of processor",
        f"time of all the server's threads, medians of {rounds} rounds in turns. Key, validation and counts are included, and the log (`{policy}`, every value",
        f"of every row, until all of it is in PostgreSQL) unless the column says otherwise. At least {WANTED:.2f} is wanted.",
        f"The load average was {os.getloadavg()[0]:.1f} at the end.",
        "",
        "| model | ONNX Runtime alone, rows/s per core | Signalbox, rows/s per core | share | without the log | share | p50 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = [f"{rate:,.0f} | {rate / row.alone:.2f}" for rate in (row.served, row.unlogged)]
        lines.append(f"| {row.title} | {row.alone:,.0f} | {' | '.join(shares)} | {row.p50_ms:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
