"""Shared memory that stalls or cannot be opened: who waits for it, and for how long."""

from __future__ import annotations

import asyncio
import json
import math
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import SignalboxError
from serving.dataplane.call import Call, Head, Route
from serving.dataplane.copying import Copying
from serving.dataplane.engine import Engine
from serving.dataplane.regions import Regions
from tests.dataplane import models
from tests.dataplane.bare_engine import adopt, bare_engine, loaded
from tests.dataplane.conftest import KEY, KEY_ENTRY, Plane, endpoint, table
from tests.dataplane.machine import ROWS, SUMS, memory, wanted
from tests.dataplane.objects import SharedObject

__all__ = ["memory"]


def test_an_object_that_stalls_keeps_nobody_else_waiting_and_is_late(tmp_path: Path, memory: SharedObject) -> None:
    memory.put([ROWS])
    with bare_engine(tmp_path) as (engine, loop):
        routes = adopt(engine, [one := loaded(tmp_path, models.regressor(tmp_path))], endpoint("sum", one[0], log_policy="off"))
        engine.regions = Regions(tmp_path / "regions.json")
        loop.run_until_complete(engine.regions.register(KEY_ENTRY, "r", {"key": memory.key, "byte_size": 4096}, engine.table()))
        free = threading.Event()
        try:
            for _ in range(4):  # as many as there are for such calls
                engine.regions.threads.submit(free.wait)
            there = {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 24}}
            reads = _submitted(engine, {"inputs": [_TENSOR | there], "parameters": {"timeout": 300_000}})
            writes = _submitted(engine, {"inputs": [_TENSOR | _ROWS], "outputs": [wanted("prediction", 8, 100)], "parameters": {"timeout": 300_000}})
            plain = _submitted(engine, {"inputs": [_TENSOR | _ROWS]})
            _run(loop, plain)
            assert (plain, reads, writes) == ([200], [], [])
            _run(loop, reads)
            _run(loop, writes)
            assert (reads, writes) == ([504], [504])
        finally:
            free.set()
        again = _submitted(engine, {"inputs": [_TENSOR | there], "outputs": [wanted("prediction", 8, 200)]})
        _run(loop, again)
        assert again == [200]
        assert memory.get(np.float32, [2, 1], 100).tolist() == [[0], [0]]  # what was too late was not written afterwards
        assert memory.get(np.float32, [2, 1], 200).tolist() == SUMS
        account = engine.accounts.of(KEY_ENTRY)
        assert (account.in_flight, routes.endpoints["sum"].flight.calls) == (0, 0)
        assert list(account.unwritten_days().values()) == [(3, 6)]  # all but the one that was never read


def test_a_key_whose_objects_stall_keeps_no_other_key_waiting(tmp_path: Path) -> None:
    with bare_engine(tmp_path) as (engine, loop):
        copying, free = Copying(engine, loop), threading.Event()
        ended: list[tuple[str, SignalboxError | None]] = []

        def begin(key_id: str, copy: Callable[[], Any]) -> None:
            call = Call(Head(Route("sum", "", "infer"), {}), b"", lambda *_: None)
            call.key_id, call.deadline = key_id, math.inf
            copying.begin(call, copy, lambda error: ended.append((key_id, error)), has_run=False)

        try:
            for _ in range(1000):
                begin("stalls", free.wait)
            begin("stalls", free.wait)
            assert [(key_id, "1000 requests of the API key stalls wait" in str(error)) for key_id, error in ended] == [("stalls", True)]
            begin("other", int)
            _run_until(loop, lambda: len(ended) == 2)
            assert ended[1:] == [("other", None)]
        finally:
            free.set()
        _run_until(loop, lambda: len(ended) == 1002)
        assert ([error for _, error in ended[1:]], engine.watched) == ([None] * 1001, set())


_TENSOR = {"name": "input", "shape": [2, 3], "datatype": "FP32"}
_ROWS = {"data": ROWS.tolist()}


def _submitted(engine: Engine, request: dict[str, Any]) -> list[int]:
    """Submit a call, and give the list that its status will be in."""
    statuses: list[int] = []
    head = Head(Route("sum", "", "infer"), {b"x-api-key": KEY.encode()})
    engine.submit(Call(head, json.dumps(request).encode(), lambda status, headers, body: statuses.append(status)))
    return statuses


def _run(loop: Any, statuses: list[int]) -> None:
    """Run the loop until there is an answer."""
    _run_until(loop, lambda: bool(statuses))


def _run_until(loop: Any, is_done: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not is_done() and time.monotonic() < until:
        loop.run_until_complete(asyncio.sleep(0.01))


def test_too_many_open_files_are_the_servers_fault(plane: Plane, memory: SharedObject) -> None:
    one = models.regressor(plane.artifacts)
    plane.keep(table([one], [endpoint("sum", one)]))
    plane.start()
    assert plane.process is not None
    plane.client.post("/v2/systemsharedmemory/region/r/register", json={"key": memory.key, "byte_size": 4096}).raise_for_status()
    memory.put([ROWS])
    there = {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 24}}
    calls = [
        ("/v2/models/sum/infer", {"inputs": [_TENSOR | there]}),
        ("/v2/models/sum/infer", {"inputs": [_TENSOR | _ROWS], "outputs": [wanted("prediction", 8, 100)]}),
        ("/v2/systemsharedmemory/region/s/register", {"key": memory.key, "byte_size": 4096}),
    ]
    whole = resource.prlimit(plane.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(plane.process.pid, resource.RLIMIT_NOFILE, (3, whole[1]))
    failed = plane.client.post(calls[0][0], json=calls[0][1])
    assert (failed.status_code, failed.json()) == (503, {"error": "The regions of shared memory cannot be read now: Too many open files."})
    resource.prlimit(plane.process.pid, resource.RLIMIT_NOFILE, whole)
    assert plane.client.get("/v2/systemsharedmemory/status").status_code == 200  # the list is read
    resource.prlimit(plane.process.pid, resource.RLIMIT_NOFILE, (3, whole[1]))
    for path, request in calls:
        failed = plane.client.post(path, json=request)
        assert (failed.status_code, "Too many open files. The fault is the server's" in failed.text) == (503, True), failed.text
        assert failed.headers["retry-after"] == "1"
    resource.prlimit(plane.process.pid, resource.RLIMIT_NOFILE, whole)
    assert [plane.client.post(path, json=request).status_code for path, request in calls] == [200] * 3
