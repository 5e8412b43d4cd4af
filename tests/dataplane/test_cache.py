"""The answer cache: what is found, what never is, how it ends, and that what it answers is logged and counted like the rest."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest

from serving.dataplane.cache import AnswerCache, Made, Room
from serving.dataplane.call import Call, Head, Route
from serving.segments import FLAG_CACHE_HIT, FLAG_CLIPPED, FLAG_DEMO, FLAG_OUT_OF_BOUNDS
from serving.table import CachePolicy, ValidationPolicy
from tests.dataplane import models
from tests.dataplane.conftest import KEY_ENTRY, Log, Plane, endpoint, table, wait_for
from tests.dataplane.standing import key

pytestmark = pytest.mark.django_db
FOR_LONG = CachePolicy(ttl_s=600)


def _predict(client: httpx.Client, *rows: list[float], name: str = "sum", **headers: str) -> dict[str, Any]:
    answer = client.post(f"/v2/models/{name}/predict", json={"rows": [dict(zip("abc", row, strict=True)) for row in rows]}, headers=headers)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def _stats(client: httpx.Client, name: str = "sum") -> tuple[int, int, int]:
    """Give runs, hits and misses."""
    (stats,) = client.get(f"/v2/models/{name}/stats").json()["model_stats"]
    return stats["execution_count"], stats["inference_stats"]["cache_hit"]["count"], stats["inference_stats"]["cache_miss"]["count"]


def test_the_same_rows_are_answered_again_without_a_run_and_logged_as_their_own(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one, cache=FOR_LONG, validation=ValidationPolicy(default="clip"))]))
    client = plane_with_log.start().client
    first = _predict(client, [99, 1, 1], [1, 2, 3])
    again = _predict(client, [99, 1, 1], [1, 2, 3], **{"Signalbox-Demo": "1"})
    assert (again["predictions"], again["prediction_id"] != first["prediction_id"]) == (first["predictions"], True)
    tensor = {"inputs": [{"name": "input", "shape": [2, 3], "datatype": "FP32", "data": [[99, 1, 1], [1, 2, 3]]}]}
    other_form = client.post("/v2/models/sum/infer", json=tensor).json()
    assert other_form["outputs"][0]["data"] == [row["prediction"] for row in first["predictions"]]
    assert _predict(client, [1, 2, 3])["predictions"] == [first["predictions"][1]]
    assert _stats(client) == (2, 2, 2)
    records = wait_for(lambda: (found := log.records("sum")) and len(found) == 7 and found, "the log")
    in_doubt = FLAG_OUT_OF_BOUNDS | FLAG_CLIPPED
    by_call = [[record["flags"] for record in records if record["prediction_id"] == UUID(each["prediction_id"]).bytes] for each in (first, again)]
    assert by_call == [[in_doubt, 0], [in_doubt | FLAG_CACHE_HIT | FLAG_DEMO, FLAG_CACHE_HIT | FLAG_DEMO]]
    assert {tuple(record[f"in.{name}"] for name in "abc") for record in records} == {(99.0, 1.0, 1.0), (1.0, 2.0, 3.0)}
    counted = wait_for(lambda: log.run("SELECT requests, rows, cache_hits FROM serving_trafficwindow WHERE slot = 'blue'"), "the counts")
    wait_for(
        lambda: (
            [sum(each) for each in zip(*log.run("SELECT requests, rows, cache_hits FROM serving_trafficwindow WHERE slot = 'blue'"), strict=True)] == [4, 7, 2]
        ),
        str(counted),
    )


def test_what_is_refused_is_never_kept_and_nothing_is_found_once_it_is_too_old(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    settings = {"validation": ValidationPolicy(default="refuse")}
    log.publish(table([one], [endpoint("sum", one, cache=FOR_LONG, **settings), endpoint("brief", one, cache=CachePolicy(ttl_s=0.2))]))
    client = plane_with_log.start().client
    for _ in range(2):
        refused = client.post("/v2/models/sum/predict", json={"rows": [{"a": 99, "b": 1, "c": 1}]})
        assert (refused.status_code, "is refused" in refused.json()["error"]) == (400, True)
    assert _stats(client) == (0, 0, 2)
    _predict(client, [1, 2, 3], name="brief")
    time.sleep(0.25)
    _predict(client, [1, 2, 3], name="brief")
    assert _stats(client, "brief") == (2, 0, 2)


def test_a_private_cache_gives_no_key_what_another_asked_for(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    text, entry = key()
    shared, private = endpoint("shared", one, cache=FOR_LONG), endpoint("private", one, cache=CachePolicy(ttl_s=600, private=True))
    log.publish(table([one], [shared, private], keys=(KEY_ENTRY, entry)))
    client = plane_with_log.start().client
    for name in ("shared", "private"):
        for _ in range(2):
            _predict(client, [1, 2, 3], name=name)
            _predict(client, [1, 2, 3], name=name, Authorization=f"Bearer {text}")
    assert (_stats(client, "shared"), _stats(client, "private")) == ((1, 3, 1), (2, 2, 2))


def test_the_cache_is_gone_with_its_build_and_stays_when_only_others_change(plane_with_log: Plane, log: Log) -> None:
    one, two = models.regressor(plane_with_log.artifacts), models.regressor(plane_with_log.artifacts, version=2, offset=0.5)
    log.publish(table([one], [endpoint("sum", one, cache=FOR_LONG)]))
    client = plane_with_log.start().client
    assert _predict(client, [1, 2, 3])["predictions"] == [{"prediction": 321.0}]
    log.publish(table([one], [endpoint("sum", one, cache=FOR_LONG), endpoint("new", one)]))
    wait_for(lambda: client.get("/v2/models/new/ready").status_code == 200, "the other endpoint")
    assert _predict(client, [1, 2, 3])["predictions"] == [{"prediction": 321.0}]
    assert _stats(client) == (1, 1, 1)
    log.publish(table([two], [endpoint("sum", two, cache=FOR_LONG)]))
    wait_for(lambda: client.get("/v2/models/sum").json().get("versions") == ["2"], "version 2")
    assert _predict(client, [1, 2, 3])["predictions"] == [{"prediction": 321.5}]
    log.publish(table([one], [endpoint("sum", one)]))
    wait_for(lambda: client.get("/v2/models/sum").json().get("versions") == ["1"], "version 1 again")
    assert _predict(client, [1, 2, 3])["predictions"] == [{"prediction": 321.0}]


def test_many_at_once_each_get_their_own_rows(plane_with_log: Plane, log: Log) -> None:
    one, churn = models.regressor(plane_with_log.artifacts), models.classifier(plane_with_log.artifacts)
    log.publish(table([one, churn], [endpoint("sum", one, cache=FOR_LONG), endpoint("churn", churn, cache=FOR_LONG)]))
    client = plane_with_log.start().client

    def ask(number: int) -> bool:
        some = [[float(number % 7), float(row), 1.0] for row in range(1 + number % 3)]
        wanted = [{"prediction": 100 + 10 * row[1] + row[0]} for row in some]
        return bool(_predict(client, *some)["predictions"] == wanted)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(300)))
    for _ in range(2):
        assert _churn(client, None, "gold") == ("no", "gold")
        assert _churn(client, None, "free") == ("no", "free")
        assert _churn(client, 41, "gold") == ("yes", "gold")
    assert _stats(client, "churn") == (3, 3, 3)


def test_all_caches_of_a_process_keep_one_bound(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint(name, one, cache=FOR_LONG) for name in ("first", "second")]))
    plane_with_log.environ = {"SIGNALBOX_ANSWER_MEMORY_BYTES": "10000", "SIGNALBOX_DATAPLANE_PROCESSES": "1", "SIGNALBOX_GRPC_PORT": "0"}
    client = plane_with_log.start().client
    for name in ("first", "second"):
        for number in range(10):
            _predict(client, [number, 0, 0], name=name)
    for number in (9, 9):
        _predict(client, [number, 0, 0], name="second")
    _predict(client, [0, 0, 0], name="first")
    assert (_stats(client, "first"), _stats(client, "second")) == ((11, 0, 11), (10, 2, 10))


def _churn(client: httpx.Client, age: float | None, plan: str) -> tuple[str, str]:
    answer = client.post("/v2/models/churn/predict", json={"rows": [{"age": age, "plan": plan}]})
    row = answer.json()["predictions"][0]
    return row["label"], row["echo"]


def _call(*values: float, dtype: str = "f4", shape: tuple[int, ...] = (1, -1)) -> Call:
    call = Call(Head(Route("sum", "", "infer"), {}), b"", lambda *_: None)
    call.arrays = {"input": np.array(values, dtype).reshape(shape)}
    return call


def test_the_key_tells_values_types_and_shapes_apart(tmp_path: Any) -> None:
    cache = AnswerCache(Made(models.regressor(tmp_path), ValidationPolicy(), FOR_LONG))
    calls = [_call(1, 2), _call(2, 1), _call(1, 2, dtype="i4"), _call(1, 2, shape=(2, 1)), _call(1, 2, 0, 0, dtype="i2")]
    assert len({cache.key_of(call) for call in calls}) == 5
    assert cache.key_of(_call(1, 2)) == cache.key_of(calls[0])


def test_what_was_not_asked_for_longest_goes_when_the_room_is_full(tmp_path: Any) -> None:
    cache = AnswerCache(Made(models.regressor(tmp_path), ValidationPolicy(), CachePolicy(ttl_s=60, max_bytes=10_000)))
    rows = np.zeros((1, 1), np.float32)
    for number in range(12):
        cache.put(bytes([number]), [rows], None, now=0.0)
        cache.get(bytes([0]), now=0.0)
    assert (len(cache), cache.size_bytes) == (12, 12 * 804)
    cache.put(b"large", [np.zeros(40, np.float64)], None, now=0.0)
    assert (len(cache), cache.size_bytes) == (12, 11 * 804 + 1120)
    assert [cache.get(bytes([number]), 0.0) is not None for number in range(3)] == [True, False, True]
    cache.put(b"too large", [np.zeros(1000, np.float64)], None, now=0.0)
    assert cache.get(b"too large", 0.0) is None
    cache.get(b"large", now=61.0)
    assert cache.size_bytes == 11 * 804


def test_caches_that_share_a_room_forget_what_none_of_them_was_asked_for_longest(tmp_path: Any) -> None:
    room = Room(max_bytes=804 * 16)
    made = Made(models.regressor(tmp_path), ValidationPolicy(), FOR_LONG)
    one, two, gone = (AnswerCache(made, room) for _ in range(3))
    rows = np.zeros((1, 1), np.float32)
    for number in range(4):
        for place, cache in enumerate((gone, one, two)):
            cache.put(bytes([number]), [rows], None, now=number + place / 10)
    one.get(bytes([0]), now=5.0)
    assert room.size_bytes == 12 * 804
    del gone, cache
    for number in range(4, 12):
        two.put(bytes([number]), [rows], None, now=float(number))
    assert (len(one), len(two), room.size_bytes) == (4, 12, 16 * 804)
    two.put(bytes([12]), [rows], None, now=12.0)
    assert (len(one), len(two), room.size_bytes) == (3, 12, 15 * 804)
    assert [one.get(bytes([number]), 13.0) is not None for number in range(4)] == [True, False, True, True]
    assert [two.get(bytes([number]), 13.0) is not None for number in range(2)] == [False, True]
    two.put(b"too large for the room", [np.zeros(300, np.float64)], None, now=13.0)
    assert room.size_bytes == 15 * 804
