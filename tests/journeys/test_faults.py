"""Promises under faults, injected into the running product while a client keeps a ledger of its own."""

from __future__ import annotations

import signal as signals
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.journeys.load import Answer, Load
from tests.journeys.wire import Wire, pipeline, processes, rows_of, signal, tumours, until

MODEL = "tumour-faults"
ENDPOINT = "tumour-durable"


@pytest.fixture(scope="module")
def wire(product) -> Wire:
    wire = Wire(product.console_url, product.predict_url, product.admin_key)
    for strength in (1.0, 0.01):
        assert wire.register(MODEL, pipeline(strength))["state"] == "ready"
    wire.call("POST", "endpoints/", json={"name": ENDPOINT, "log_policy": "durable"})
    for version in (1, 2):
        wire.call("POST", f"endpoints/{ENDPOINT}/deploy/", json={"model": MODEL, "version": version})
    until(lambda: wire.predict(ENDPOINT, rows_of(tumours()[0][:1])).status_code == 200, 20)
    return wire


@pytest.fixture
def load(wire) -> Load:
    return Load(wire.predict_url, wire.key, ENDPOINT, rows_of(tumours()[0][:1])[0])


def logged(wire: Wire, prediction_id: str) -> bool:
    return wire.api.get(f"endpoints/{ENDPOINT}/predictions/{prediction_id}/").status_code == 200


def assert_all_logged(wire: Wire, load: Load) -> None:
    """Every answer that the client holds is in the log; a spool has half a minute to drain."""
    missing = [answer.prediction_id for answer in load.answers]
    end = time.monotonic() + 40
    while missing and time.monotonic() < end:
        missing = [prediction_id for prediction_id in missing if not logged(wire, prediction_id)]
    assert missing == [], f"{len(missing)} of {len(load.answers)}"


def test_a_killed_data_plane_process_loses_no_acknowledged_prediction(wire, product, load):
    with load:
        load.wait_for(150)
        signal(processes(product.pid, "serving.dataplane")[:1], signals.SIGKILL)
        load.wait_for(150)
        until(lambda: len(processes(product.pid, "serving.dataplane")) >= 2, 20)
    assert load.failures == []
    assert_all_logged(wire, load)


def test_predictions_go_on_while_redis_is_frozen_and_after_it_is_killed(wire, product, load):
    with load:
        load.wait_for(50)
        redis = processes(product.pid, "redis-server")[:1]
        signal(redis, signals.SIGSTOP)
        load.wait_for(150)
        signal(redis, signals.SIGCONT)
        signal(redis, signals.SIGKILL)
        load.wait_for(150)
    assert load.failures == []
    assert_all_logged(wire, load)


def test_predictions_go_on_while_postgres_is_killed_and_the_log_is_complete(wire, product, load):
    with load:
        load.wait_for(50)
        postmaster = processes(product.pid, "/postgres -D") or processes(product.pid, "postgres -D")
        signal(postmaster[:1], signals.SIGKILL)
        load.wait_for(200)
    assert load.failures == []
    until(lambda: wire.api.get("endpoints/").status_code == 200, 60)
    assert_all_logged(wire, load)


def test_a_killed_worker_is_replaced_and_the_next_version_is_checked(wire, product):
    signal(processes(product.pid, "sandbox")[:1], signals.SIGKILL)
    assert wire.register(MODEL, pipeline(0.1))["state"] == "ready"


def test_promotions_under_load_answer_from_a_version_that_was_live(wire, load):
    """10,000 requests during 200 promotions and roll backs: none fails, none is answered by what was not live."""
    with load:
        for turn in range(200):
            state = wire.endpoint(ENDPOINT)
            if turn % 4 == 3:
                wire.call("POST", f"endpoints/{ENDPOINT}/roll-back/", json={"reason": f"turn {turn}"})
            else:
                wire.call("POST", f"endpoints/{ENDPOINT}/promote/", json={"revision": state["revision"], "reason": f"turn {turn}"})
        load.wait_for(max(0, 10_000 - len(load.answers)), 120)
    assert load.failures == []
    spans = live_spans(wire)
    strangers = [answer for answer in load.answers if not any(live_at(span, answer) for span in spans)]
    assert strangers == []


AGREE_WITHIN_S = 2.0


def live_spans(wire: Wire) -> list[tuple[str, float, float]]:
    """(version, from, to) of what had all the traffic, out of the ledger; a process may be 2 s behind."""
    entries: list[dict[str, Any]] = []
    cursor: Any = ""
    while cursor is not None:
        page = wire.call("GET", f"endpoints/{ENDPOINT}/ledger/", params={"limit": 200, **({"cursor": cursor} if cursor else {})})
        entries += page["results"]
        cursor = page["next"]
    entries.reverse()
    ends = [moment(entry["at"]) for entry in entries[1:]] + [time.time() + 60]
    spans = []
    for entry, end in zip(entries, ends, strict=True):
        spans += [(str(slot["version"]), moment(entry["at"]), end + AGREE_WITHIN_S) for slot in entry["after"]["slots"] if slot.get("weight")]
    return spans


def moment(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def live_at(span: tuple[str, float, float], answer: Answer) -> bool:
    version, begin, end = span
    return version == answer.version and begin <= answer.done and answer.sent <= end
