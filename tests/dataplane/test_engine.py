"""The engine's own promises where several calls meet in one turn of its loop: each gets what is its own, and is counted once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from serving.dataplane.call import Call, Head, Route
from serving.table import CachePolicy, Limits
from tests.dataplane import models
from tests.dataplane.bare_engine import adopt, bare_engine, loaded
from tests.dataplane.conftest import KEY, endpoint

pytestmark = pytest.mark.django_db  # the engine's log would look for one


class Caller:
    """Sends infer requests and keeps their answers in order."""

    def __init__(self, engine: Any, name: str, **headers: bytes) -> None:
        self._engine, self._name = engine, name
        self._headers = {b"authorization": f"Bearer {KEY}".encode()} | {key.encode(): value for key, value in headers.items()}
        self.answers: list[tuple[int, Any]] = []

    def ask(self, *tensors: dict[str, Any]) -> None:
        head = Head(Route(self._name, "", "infer"), self._headers)
        body = json.dumps({"inputs": list(tensors)}).encode()
        self._engine.submit(Call(head, body, lambda status, _, answer: self.answers.append((status, json.loads(answer)))))


def _tensor(name: str, shape: list[int], data: list[float]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "FP32", "data": data}


def test_answers_found_together_are_not_mixed_where_the_first_axis_is_no_row(tmp_path: Path) -> None:
    build = loaded(tmp_path, models.fixed(tmp_path))
    one, two = _tensor("input", [2, 3], [1, 2, 3, 4, 5, 6]), _tensor("input", [2, 3], [7, 8, 9, 10, 11, 12])
    with bare_engine(tmp_path) as (engine, loop):
        adopt(engine, [build], endpoint("fixed", build[0], cache=CachePolicy(ttl_s=60)))
        caller = Caller(engine, "fixed")
        for _ in range(2):
            caller.ask(one)
            caller.ask(two)
            loop.run_until_complete(asyncio.sleep(0.05))
        (stats,) = engine.stats.values()
        assert (stats.cache_hits, stats.cache_misses) == (2, 2)
    found = [(status, answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) for status, answer in caller.answers]
    assert found == [(200, [2, 3], one["data"]), (200, [2, 3], two["data"])] * 2


def test_inputs_of_varying_width_in_another_order_do_not_meet_in_a_batch(tmp_path: Path) -> None:
    build = loaded(tmp_path, models.sums_of_two(tmp_path))
    with bare_engine(tmp_path) as (engine, loop):
        adopt(engine, [build], endpoint("sums", build[0], cache=CachePolicy(ttl_s=60)))
        caller = Caller(engine, "sums")
        for _ in range(2):
            caller.ask(_tensor("x", [1, 3], [1, 1, 1]), _tensor("y", [1, 2], [10, 10]))
            caller.ask(_tensor("y", [1, 3], [10, 10, 10]), _tensor("x", [1, 2], [1, 1]))
            loop.run_until_complete(asyncio.sleep(0.05))
    assert [(status, answer["outputs"][0]["data"]) for status, answer in caller.answers] == [(200, [23.0]), (200, [32.0])] * 2


def test_who_was_told_that_it_is_too_late_is_counted_once_and_not_logged(tmp_path: Path) -> None:
    build = loaded(tmp_path, models.slow(tmp_path, loops=100_000))
    with bare_engine(tmp_path) as (engine, loop):
        adopt(engine, [build], endpoint("slow", build[0], limits=Limits(timeout_ms=1)))
        caller = Caller(engine, "slow")
        caller.ask(_tensor("input", [1, 1], [2]))
        while engine.watched or not caller.answers:
            loop.run_until_complete(asyncio.sleep(0.05))
        (counts,) = (each for each in engine.counts.totals().values() if each.requests)
        (stats,) = engine.stats.values()
        assert [status for status, _ in caller.answers] == [504]
        assert (counts.requests, counts.errors, counts.rows, sum(counts.latency)) == (1, 1, 0, 1)
        assert (stats.success_count, stats.fail_count) == (0, 1)
        assert engine.log.waiting() == (0, None)


def test_a_shadow_s_copy_keeps_the_rows_and_not_the_body(tmp_path: Path) -> None:
    entry, build = loaded(tmp_path, models.regressor(tmp_path))
    build.runtime = None  # the shadow cannot keep up: it is being loaded
    one = loaded(tmp_path, models.regressor(tmp_path, version=2))
    with bare_engine(tmp_path) as (engine, loop):
        routes = adopt(engine, [one, (entry, build)], endpoint("sum", one[0], ("green", entry, 0, True)))
        caller = Caller(engine, "sum")
        for _ in range(60):
            caller.ask(_tensor("input", [1000, 3], [1.0] * 3000))
        loop.run_until_complete(asyncio.sleep(0.05))
        (shadow,) = routes.endpoints["sum"].shadows
        assert [status for status, _ in caller.answers] == [200] * 60
        assert (len(shadow.batcher.pending), {call.body for call in shadow.batcher.pending}) == (50, {b""})
