"""The prediction log and the counts: every answered row, with Postgres there, away, and after a kill."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from serving.segments import FLAG_CLIPPED, FLAG_DEMO, FLAG_FILLED, FLAG_OUT_OF_BOUNDS, FLAG_REPLACED, FLAG_UNSEEN_CATEGORY
from serving.table import ValidationPolicy
from tests.dataplane import models
from tests.dataplane.conftest import HEADERS, KEY_ENTRY, Log, Plane, endpoint, table, wait_for
from tests.metrics_page import value_of

# The data plane writes with connections of its own; the mark has the test database made.
pytestmark = pytest.mark.django_db


def _sum(client: httpx.Client, first: float, name: str = "sum", **headers: str) -> httpx.Response:
    return client.post(f"/v2/models/{name}/predict", json={"rows": [{"a": first, "b": 0, "c": 0}]}, headers=headers)


def test_every_answered_row_is_logged_with_all_its_columns(plane_with_log: Plane, log: Log) -> None:
    churn = models.classifier(plane_with_log.artifacts)
    revision = log.publish(table([churn], [endpoint("churn", churn)]))
    client = plane_with_log.start().client
    rows = [{"age": 41, "plan": "gold"}, {"plan": "silver"}, {"age": 500, "plan": "free"}]
    before = time.time()
    answer = client.post("/v2/models/churn/predict", json={"rows": rows, "id": "mine"}, headers={"Signalbox-Demo": "1"})
    records = wait_for(lambda: log.records("churn"), "the log")
    identifier = UUID(answer.json()["prediction_id"])
    assert [UUID(bytes=record["prediction_id"]) for record in records] == [identifier] * 3
    assert [record["row"] for record in records] == [0, 1, 2]
    assert [record["in.age"] for record in records] == [41.0, None, 500.0]
    assert [record["in.plan"] for record in records] == ["gold", "silver", "free"]
    assert [record["out.label"] for record in records] == ["yes", "no", "yes"]
    assert [record["out.probabilities"] for record in records] == [[0.25, 0.75], [0.75, 0.25], [0.25, 0.75]]
    assert [record["flags"] for record in records] == [FLAG_DEMO, FLAG_DEMO | FLAG_UNSEEN_CATEGORY, FLAG_DEMO | FLAG_OUT_OF_BOUNDS]
    assert {(record["request_id"], record["key_id"], record["slot"], record["version"]) for record in records} == {("mine", KEY_ENTRY.id, "blue", 1)}
    assert all(0 < record["latency_us"] < 5_000_000 for record in records)
    assert all(abs(record["received_at"].timestamp() - before) < 5 for record in records)
    (segment,) = log.run("SELECT rows, model, build_digest, table_revision, profiled_at FROM serving_predictionsegment")
    assert segment == (3, "churn", churn.digest, revision, None)


def test_the_log_keeps_what_was_sent_and_flags_what_a_policy_changed(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    policy = ValidationPolicy(default="clip", features={"b": "replace"})
    log.publish(table([one], [endpoint("sum", one, validation=policy)]))
    client = plane_with_log.start().client
    client.post("/v2/models/sum/predict", json={"rows": [{"a": 99, "b": 1, "c": 1}, {"a": 1, "b": 99, "c": 1}]})
    records = wait_for(lambda: log.records("sum"), "the log")
    assert [(record["in.a"], record["in.b"], record["out.prediction"]) for record in records] == [(99.0, 1.0, 119.0), (1.0, 99.0, 151.0)]
    assert [record["flags"] for record in records] == [FLAG_OUT_OF_BOUNDS | FLAG_CLIPPED, FLAG_OUT_OF_BOUNDS | FLAG_REPLACED]


def test_the_log_keeps_that_a_value_was_missing_and_flags_its_row(plane_with_log: Plane, log: Log) -> None:
    customers = models.customers(plane_with_log.artifacts)
    log.publish(table([customers], [endpoint("customers", customers, validation=ValidationPolicy(default="replace"))]))
    client = plane_with_log.start().client
    whole = {"age": 2**60 + 1, "member": False, "weight": 50.5, "plan": "gold", "note": "tall"}
    missing = whole | {"age": None, "member": None, "weight": None, "plan": None}
    for rows in ([whole, missing], [whole]):
        assert client.post("/v2/models/customers/predict", json={"rows": rows}).status_code == 200
    records = wait_for(lambda: len(found := log.records("customers")) == 3 and found, "the log")
    assert [{name: record[f"in.{name}"] for name in whole} for record in records] == [whole, missing, whole]
    assert [record["out.out_age"] for record in records] == [2**60 + 1, 40, 2**60 + 1]
    assert [record["flags"] for record in records] == [0, FLAG_FILLED, 0]


def test_the_policies_off_and_sampled_and_shadow(plane_with_log: Plane, log: Log) -> None:
    one, two = models.regressor(plane_with_log.artifacts), models.regressor(plane_with_log.artifacts, version=2, offset=0.5)
    endpoints = [
        endpoint("off", one, log_policy="off"),
        endpoint("sampled", one, log_policy="sampled", log_share=0.25),
        endpoint("shadowed", one, ("green", two, 0, True)),
    ]
    log.publish(table([one, two], endpoints))
    client = plane_with_log.start().client
    for number in range(200):
        _sum(client, number % 9, "off")
        _sum(client, number % 9, "sampled")
    answer = _sum(client, 3, "shadowed").json()
    assert plane_with_log.stop() == 0
    assert log.records("off") == []
    assert 20 <= len(log.records("sampled")) <= 85
    both = log.records("shadowed")
    assert {(record["slot"], record["out.prediction"]) for record in both} == {("blue", 3.0), ("green", 3.5)}
    assert {str(UUID(bytes=record["prediction_id"])) for record in both} == {answer["prediction_id"]}


def test_counts_add_up_by_slot_and_refusals_stand_apart(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one)]))
    client = plane_with_log.start().client
    for number in range(20):
        assert _sum(client, 99 if number < 5 else 1).status_code == 200
    for _ in range(7):
        assert client.post("/v2/models/sum/infer", content=b"{").status_code == 400
    assert httpx.post(f"{plane_with_log.url}/v2/models/sum/infer").status_code == 401
    assert plane_with_log.stop() == 0
    columns = "slot, version, sum(requests), sum(rows), sum(refused), sum(errors), sum(flagged)"
    counted = log.run(f"SELECT {columns} FROM serving_trafficwindow WHERE endpoint = 'sum' GROUP BY slot, version ORDER BY slot")
    assert [tuple(map(str, row)) for row in counted] == [("", "0", "7", "0", "7", "0", "0"), ("blue", "1", "20", "20", "0", "0", "5")]
    ((total,),) = log.run("SELECT sum(bucket) FROM serving_trafficwindow, unnest(latency) AS bucket WHERE slot = 'blue'")
    assert total == 20


def test_each_process_shows_its_table_and_goes_when_it_ends(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    revision = log.publish(table([one], [endpoint("sum", one)]))
    plane_with_log.start()
    assert plane_with_log.process is not None
    row = wait_for(lambda: log.run("SELECT pid, table_revision, ready, builds, memory_bytes FROM serving_dataplaneprocess"), "the heartbeat")[0]
    size = row[3][0]["memory_bytes"]
    assert row[:4] == (plane_with_log.process.pid, revision, True, [{"digest": one.digest, "error": "", "state": "loaded", "memory_bytes": size}])
    assert one.size_bytes <= size < 2_000_000
    assert 20_000_000 < row[4] < 400_000_000
    plane_with_log.stop()
    assert log.run("SELECT * FROM serving_dataplaneprocess") == []


def test_kill_9_loses_nothing_that_the_durable_policy_acknowledged(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one, log_policy="durable")]))
    plane_with_log.start()
    acknowledged: list[str] = []
    killed = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=plane_with_log.url, headers=HEADERS) as client:
            while not killed.is_set():
                try:
                    answer = _sum(client, 1)
                except httpx.TransportError:
                    return
                acknowledged.append(answer.json()["prediction_id"])

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        wait_for(lambda: len(acknowledged) > 100, "some answers")
        plane_with_log.stop(signal.SIGKILL)
        killed.set()
        for each in asking:
            each.result()
    logged = [str(UUID(bytes=record["prediction_id"])) for record in log.records("sum")]
    assert len(logged) == len(set(logged))
    assert set(acknowledged) <= set(logged)


def test_predictions_go_on_without_postgres_and_the_log_is_complete_afterwards(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one), endpoint("safe", one, log_policy="durable")]))
    client = plane_with_log.start().client
    identifiers = [_sum(client, 1, name).json()["prediction_id"] for name in ("sum", "safe")]
    with Away(log):
        for number in range(30):
            answer = _sum(client, 1, "safe" if number % 2 else "sum")
            assert answer.status_code == 200
            identifiers.append(answer.json()["prediction_id"])
            time.sleep(0.01)
        spool = plane_with_log.var_dir / "dataplane" / "spool"
        wait_for(lambda: list(spool.glob("*.segment")), "the spool")
        plane_with_log.stop(signal.SIGKILL)  # what is spooled outlives the process too
        plane_with_log.start()
        client = plane_with_log.client
        identifiers.append(_sum(client, 1, "safe").json()["prediction_id"])
    wait_for(lambda: not list(spool.glob("*.segment")), "the spool to be drained")
    identifiers.append(_sum(client, 1, "safe").json()["prediction_id"])
    plane_with_log.stop()
    logged = [str(UUID(bytes=record["prediction_id"])) for name in ("sum", "safe") for record in log.records(name)]
    assert sorted(logged) == sorted(identifiers)


class Away:
    """Ends every connection to the database and lets none in, as a Postgres that is down would."""

    def __init__(self, log: Log) -> None:
        self._log = Log(log.url.replace("/" + log.url.split("?")[0].rsplit("/", 1)[1], "/postgres", 1))
        self._name = log.url.split("?")[0].rsplit("/", 1)[1]

    def __enter__(self) -> None:
        self._log.run(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false')
        self._log.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'signalbox %%'", self._name)

    def __exit__(self, *_: object) -> None:
        self._log.run(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true')


def test_writing_the_log_loads_no_pandas(standing: Plane) -> None:
    """pyarrow would, with the first prediction: 40 MB that nothing uses, and the caller waits meanwhile."""
    assert standing.client.post("/v2/models/churn/predict", json={"rows": [{"plan": "free"}]}).status_code == 200
    wait_for(lambda: value_of(standing.client.get("/metrics").text, "signalbox_log_waiting_batches") == 0, "the log")
    assert standing.process is not None
    mapped = Path(f"/proc/{standing.process.pid}/maps").read_text()
    assert ("/pyarrow/" in mapped, "/pandas/" in mapped) == (True, False)
