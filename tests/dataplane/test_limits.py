"""Rates, budgets and the other limits of a key, in one process and over several, with Redis and without."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.limits import KeyLimits
from core.environment import Environment
from core.ids import uuid7
from serving.dataplane.errors import TooOften
from serving.dataplane.limits import Account, Accounts, Rate
from serving.table import KeyEntry, Limits, ValidationPolicy
from tests.dataplane import models
from tests.dataplane.conftest import KEY_ENTRY, Log, Plane, endpoint, table, wait_for
from tests.dataplane.standing import key

pytestmark = pytest.mark.django_db


def _ask(plane: Plane, text: str, rows: int = 1, name: str = "sum") -> httpx.Response:
    body = {"rows": [{"a": 1, "b": 2, "c": 3}] * rows}
    return plane.client.post(f"/v2/models/{name}/predict", json=body, headers={"Authorization": f"Bearer {text}"})


def _limited(plane: Plane, log: Log, limits: KeyLimits, *, of_endpoint: Limits | None = None) -> str:
    text, entry = key(limits=limits)
    one = models.regressor(plane.artifacts)
    log.publish(table([one], [endpoint("sum", one, limits=of_endpoint or Limits()), endpoint("other", one)], keys=(KEY_ENTRY, entry)))
    return text


@pytest.fixture
def pair(plane_with_log: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plane, Plane]]:
    """Two processes with one database, neither started."""
    other = Plane(tmp_path_factory.mktemp("other"), plane_with_log.database_url)
    yield plane_with_log, other
    other.end()


def test_a_rate_lets_a_burst_through_and_says_when_to_come_again(plane_with_log: Plane, log: Log) -> None:
    text = _limited(plane_with_log, log, KeyLimits(requests_per_s=0.2, burst=3))
    plane_with_log.start()
    answers = [_ask(plane_with_log, text, name=name) for name in ("sum", "other", "sum", "sum", "other")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[3].json()["error"].startswith(f"More than 0.2 requests per second, the limit of the API key {text.split('_')[1]}. Try again in ")
    assert answers[3].headers["retry-after"] in ("4", "5")
    assert _ask(plane_with_log, plane_with_log_key()).status_code == 200
    counted = wait_for(lambda: log.run("SELECT requests, rows FROM serving_keyusage WHERE key_id <> %s", KEY_ENTRY.id), "the usage")
    assert counted == [(3, 3)]


def plane_with_log_key() -> str:
    from tests.dataplane.conftest import KEY

    return KEY


def test_an_endpoint_sets_a_rate_for_each_key_by_itself(plane_with_log: Plane, log: Log) -> None:
    text = _limited(plane_with_log, log, KeyLimits(), of_endpoint=Limits(requests_per_s=0.1, burst=2))
    plane_with_log.start()
    for each in (text, plane_with_log_key()):
        assert [_ask(plane_with_log, each).status_code for _ in range(3)] == [200, 200, 429]
        assert _ask(plane_with_log, each, name="other").status_code == 200


def test_a_budget_holds_over_processes_a_restart_and_a_new_table(pair: tuple[Plane, Plane], log: Log) -> None:
    first, second = pair
    text, entry = key(limits=KeyLimits(rows_per_day=10, rows_in_all=12))
    one, same = models.regressor(first.artifacts), models.regressor(second.artifacts)
    assert one.digest == same.digest
    log.publish(table([one], [endpoint("sum", one)], keys=(KEY_ENTRY, entry)))
    first.start()
    assert [_ask(first, text, rows).status_code for rows in (4, 3, 4)] == [200, 200, 429]
    assert first.stop() == 0
    second.start()
    assert [_ask(second, text, rows).status_code for rows in (9, 3, 1)] == [429, 200, 429]
    refused = _ask(second, text)
    assert f"{entry.id} has used its 10 rows of today" in refused.json()["error"]
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    raised = KeyEntry(id=entry.id, secret_digest=entry.secret_digest, name="k", scopes=("predict",), limits=KeyLimits(rows_per_day=100, rows_in_all=12))
    log.publish(table([one], [endpoint("sum", one)], keys=(KEY_ENTRY, raised)))
    assert wait_for(lambda: _ask(second, text, 2).status_code == 200, "the higher budget of a day")
    refused = _ask(second, text)
    assert (refused.status_code, "retry-after" in refused.headers) == (429, False)
    assert "has used its 12 rows. An admin can raise its budget" in refused.json()["error"]
    assert second.stop() == 0
    assert log.run("SELECT sum(requests), sum(rows) FROM serving_keyusage WHERE key_id = %s", entry.id) == [(4, 12)]


def test_a_new_limit_of_size_or_time_holds_on_a_connection_that_stays(plane_with_log: Plane, log: Log) -> None:
    text, entry = key(limits=KeyLimits(max_body_bytes=100))
    slow = models.slow(plane_with_log.artifacts)
    log.publish(table([slow], [endpoint("slow", slow)], keys=(KEY_ENTRY, entry)))
    plane_with_log.start()
    body = {"inputs": [{"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [2]}], "id": "x" * 100}

    def answers(status: int) -> bool:
        return plane_with_log.client.post("/v2/models/slow/infer", json=body, headers={"Authorization": f"Bearer {text}"}).status_code == status

    assert answers(413)
    for limits, status in ((KeyLimits(), 200), (KeyLimits(timeout_ms=20), 504), (KeyLimits(max_body_bytes=100), 413)):
        log.publish(table([slow], [endpoint("slow", slow)], keys=(KEY_ENTRY, msgspec.structs.replace(entry, limits=limits))))
        wait_for(partial(answers, status), f"the status {status}")


def test_what_is_refused_costs_nothing_of_the_budget(plane_with_log: Plane, log: Log) -> None:
    text, entry = key(limits=KeyLimits(rows_per_day=2, max_rows=2))
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one, validation=ValidationPolicy(default="refuse"))], keys=(KEY_ENTRY, entry)))
    plane_with_log.start()
    bad = plane_with_log.client.post("/v2/models/sum/predict", json={"rows": [{"a": 99, "b": 1, "c": 1}]}, headers={"Authorization": f"Bearer {text}"})
    assert (bad.status_code, "is refused" in bad.json()["error"]) == (400, True)
    large = _ask(plane_with_log, text, 3)
    assert (large.status_code, "may send 2 at once" in large.json()["error"]) == (413, True)
    assert [_ask(plane_with_log, text, 2).status_code, _ask(plane_with_log, text).status_code] == [200, 429]


def test_processes_tell_each_other_what_a_rate_has_let_through(pair: tuple[Plane, Plane], log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "REDIS_URL", Environment().redis_url)
    first, second = pair
    text, entry = key(limits=KeyLimits(requests_per_s=0.05, burst=4))
    one, _ = models.regressor(first.artifacts), models.regressor(second.artifacts)
    log.publish(table([one], [endpoint("sum", one)], keys=(KEY_ENTRY, entry)))
    first.start()
    second.start()
    assert [_ask(each, text).status_code for each in (first, second)] == [200, 200]
    time.sleep(3)  # the client is imported, and both know of each other now
    assert _ask(first, text).status_code == 200
    time.sleep(0.5)
    assert [_ask(second, text).status_code for _ in range(2)] == [200, 429]
    assert wait_for(lambda: _ask(first, text).status_code == 429, "what the second has let through")


def test_without_a_redis_each_process_holds_its_own_rate(plane_with_log: Plane, log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(os.environ, "REDIS_URL", f"unix://{tmp_path}/nobody.sock")
    text = _limited(plane_with_log, log, KeyLimits(requests_per_s=0.1, burst=2))
    plane_with_log.start()
    assert [_ask(plane_with_log, text).status_code for _ in range(3)] == [200, 200, 429]


def test_requests_at_once_are_limited_per_key(plane_with_log: Plane, log: Log) -> None:
    from concurrent.futures import ThreadPoolExecutor

    text, entry = key(limits=KeyLimits(max_concurrency=2))
    slow = models.slow(plane_with_log.artifacts)
    log.publish(table([slow], [endpoint("slow", slow)], keys=(KEY_ENTRY, entry)))
    plane = plane_with_log.start()
    body = {"inputs": [{"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [2]}]}

    def ask(_: int) -> Any:
        return httpx.post(f"{plane.url}/v2/models/slow/infer", json=body, headers={"Authorization": f"Bearer {text}"}, timeout=30)

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, range(6)))
    assert {answer.status_code for answer in answers} == {200, 503}
    assert all(
        f"{entry.id} has 2 requests" in answer.json()["error"] and answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503
    )
    assert ask(0).status_code == 200


@given(st.floats(0.1, 1000), st.integers(0, 50), st.lists(st.floats(0, 0.2), min_size=1, max_size=200))
def test_a_rate_never_lets_more_through_than_burst_and_pace_allow(per_s: float, burst: int, pauses: list[float]) -> None:
    rate, now, begun = Rate("r", per_s, burst), 100.0, 100.0
    let = 0
    for pause in pauses:
        now += pause
        try:
            rate.take(now)
        except TooOften:
            continue
        let += 1
        at_once = burst or max(1, -(-per_s // 1))
        assert let <= at_once + (now - begun) * per_s + 1e-6
    assert (let >= 1, rate.taken) == (True, let)


@given(st.floats(0.5, 100), st.integers(1, 20))
def test_who_waits_as_told_is_let_through(per_s: float, burst: int) -> None:
    rate, now = Rate("r", per_s, burst), 5.0
    for _ in range(burst):
        rate.take(now)
    with pytest.raises(TooOften) as refused:
        rate.take(now)
    assert refused.value.headers.startswith(b"retry-after: ")
    rate.take(now + 1 / per_s + 1e-6)


def test_what_could_not_be_written_of_a_key_that_is_gone_is_written_later(log: Log) -> None:
    accounts = Accounts(uuid7())
    entries = [key(limits=KeyLimits(rows_per_day=100))[1] for _ in range(2)]
    accounts.begin(entries, {})
    at_us = time.time_ns() // 1000
    for entry in entries:
        accounts.of(entry).charge(3, at_us)

    class Broken:
        def transaction(self) -> None:
            accounts.begin(entries[:1], {})  # the loop takes a new table while the heartbeat writes
            raise psycopg.OperationalError

    with pytest.raises(psycopg.OperationalError):
        accounts.write(cast("psycopg.Connection[Any]", Broken()))
    with psycopg.connect(log.url, autocommit=True) as connection:
        accounts.write(connection)
    assert log.run("SELECT key_id, rows FROM serving_keyusage ORDER BY key_id") == sorted((entry.id, 3) for entry in entries)


def test_a_day_ends_at_midnight_utc() -> None:
    _, entry = key(limits=KeyLimits(rows_per_day=5))
    account, day_us = Account(entry), 86_400_000_000
    account.charge(5, 20_000 * day_us + day_us - 1)
    account.charge(5, 20_001 * day_us)
    assert account.unwritten_days() == {20_000: (1, 5), 20_001: (1, 5)}
    account.refund(5, 20_001 * day_us)
    assert account.unwritten_days() == {20_001: (0, 0)}
