"""The page /metrics: exact counts of what was asked, one page for all processes, read with Prometheus' own parser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from core.environment import ROOT
from core.metrics.openness import needs_key
from serving.table import Limits, ValidationPolicy
from tests.dataplane import models
from tests.dataplane.conftest import HEADERS, KEY_ENTRY, Plane, endpoint, free_port, table, wait_for
from tests.dataplane.hostile_bodies import http
from tests.dataplane.standing import OPERATOR, READER
from tests.dataplane.test_hostile import Connection
from tests.metrics_page import samples_of, value_of


def _page(plane: Plane, **headers: str) -> str:
    answer = httpx.get(f"{plane.url}/metrics", headers=headers)
    assert answer.status_code == 200
    return answer.text


def _change(plane: Plane, ask, name: str, **labels: str) -> float:
    """Give by how much a value rises while ``ask`` is done."""
    before = value_of(_page(plane), name, **labels)
    ask()
    return value_of(_page(plane), name, **labels) - before


def _predict(plane: Plane, name: str, *rows: dict[str, object]) -> int:
    return plane.client.post(f"/v2/models/{name}/predict", json={"rows": list(rows)}).status_code


ROW: dict[str, object] = {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("signalbox_answered_requests_total", 2),
        ("signalbox_answered_rows_total", 3),
        ("signalbox_request_duration_seconds_count", 2),
        ("signalbox_batch_rows_count", 2),
        ("signalbox_batch_rows_sum", 3),
        ("signalbox_failed_requests_total", 0),
    ],
)
def test_counts_what_a_slot_answered(standing: Plane, name: str, change: int) -> None:
    def ask() -> None:
        assert [_predict(standing, "sum", ROW), _predict(standing, "sum", ROW, ROW)] == [200, 200]

    assert _change(standing, ask, name, endpoint="sum", slot="blue", version="1") == change


@pytest.mark.parametrize("name", ["signalbox_request_duration_seconds_sum", "signalbox_run_seconds_total", "signalbox_queue_seconds_total"])
def test_adds_up_the_time_of_each_part(standing: Plane, name: str) -> None:
    assert 0 < _change(standing, lambda: _predict(standing, "sum", ROW), name, endpoint="sum", slot="blue") < 1


def test_counts_batches_by_their_rows(standing: Plane) -> None:
    def at_most(edge: str) -> float:
        return _change(standing, lambda: _predict(standing, "sum", ROW, ROW, ROW), "signalbox_batch_rows_bucket", endpoint="sum", slot="blue", le=edge)

    assert [at_most("2.0"), at_most("4.0"), at_most("+Inf")] == [0, 1, 1]


def test_counts_refusals_by_status_and_reason(standing: Plane) -> None:
    refused = {"endpoint": "sum", "slot": "", "status": "400", "reason": "invalid"}
    assert _change(standing, lambda: _predict(standing, "sum", {"a": "x"}), "signalbox_refused_requests_total", **refused) == 1
    assert _change(standing, lambda: _predict(standing, "sum", {"a": "x"}), "signalbox_request_duration_seconds_count", endpoint="sum", slot="") == 1


def test_counts_a_name_that_does_not_exist_under_no_name(standing: Plane) -> None:
    """Else a stranger's guesses would each become a series."""
    unknown = {"endpoint": "", "status": "404", "reason": "not_found"}
    assert _change(standing, lambda: _predict(standing, "guess", ROW), "signalbox_refused_requests_total", **unknown) == 1
    assert "guess" not in _page(standing)


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        (http(path="/v2/nothing", method="GET"), 404, "not_found"),
        (http(path="/v2"), 405, "not_allowed"),
        (http(path="/metrics"), 405, "not_allowed"),
        (http(path="/v2/repository/models/sum/load"), 403, "forbidden"),
        (http(b"x" * (2**20 + 1), "/v2/repository/index"), 413, "too_large"),
        (b"nonsense\r\n\r\n", 400, "invalid"),
        (http(X="x" * 70_000), 431, "head_too_large"),
    ],
)
def test_counts_errors_that_are_no_predictions_under_no_endpoint(standing: Plane, raw: bytes, status: int, reason: str) -> None:
    def ask() -> None:
        with Connection(standing.port) as connection:
            assert connection.ask(raw).status == status

    counted = {"endpoint": "", "slot": "", "status": str(status), "reason": reason}
    assert _change(standing, ask, "signalbox_refused_requests_total", **counted) == 1
    assert _change(standing, ask, "signalbox_refused_requests_total") == 1


@pytest.mark.parametrize(("feature", "action"), [("a", "clipped"), ("b", "replaced"), ("c", "refused")])
def test_counts_what_validation_did(standing: Plane, feature: str, action: str) -> None:
    outside = ROW | {feature: 1e6}
    counted = {"endpoint": "clipped", "slot": "blue", "feature": feature, "action": action}
    assert _change(standing, lambda: _predict(standing, "clipped", outside), "signalbox_validation_actions_total", **counted) == 1
    others = _change(standing, lambda: _predict(standing, "clipped", outside), "signalbox_validation_actions_total", endpoint="clipped")
    assert others == 1


def test_counts_what_was_missing_and_filled_in(standing: Plane) -> None:
    counted = {"endpoint": "filled-matrix", "slot": "blue", "feature": "b", "action": "filled"}
    missing = ROW | {"b": None}
    assert _change(standing, lambda: _predict(standing, "filled-matrix", missing, ROW, missing), "signalbox_validation_actions_total", **counted) == 2
    flagged = {"endpoint": "filled-matrix", "slot": "blue"}
    assert _change(standing, lambda: _predict(standing, "filled-matrix", missing, ROW, missing), "signalbox_flagged_rows_total", **flagged) == 2


def test_every_bucket_holds_those_below_it(standing: Plane) -> None:
    _predict(standing, "sum", ROW)
    found = [
        (float(labels["le"]), value)
        for name, labels, value in samples_of(_page(standing))
        if name == "signalbox_request_duration_seconds_bucket" and labels["endpoint"] == "sum" and labels["slot"] == "blue"
    ]
    assert len(found) == 23
    assert found == sorted(found)
    assert [value for _, value in found] == sorted(value for _, value in found)


def test_tells_the_state_of_the_process(standing: Plane) -> None:
    page = _page(standing)
    assert standing.process is not None
    own = {"process": "dataplane", "pid": str(standing.process.pid)}
    assert value_of(page, "signalbox_ready", **own) == 1
    assert value_of(page, "signalbox_process_up", **own) == 1
    assert value_of(page, "signalbox_route_table_revision", **own) == 1
    assert value_of(page, "signalbox_route_table_published_timestamp_seconds", **own) == pytest.approx(time.time(), abs=600)
    assert {value for name, _, value in samples_of(page) if name == "signalbox_build_loaded"} == {1}
    assert value_of(page, "signalbox_in_flight_requests", endpoint="sum", **own) == 0
    assert value_of(page, "process_resident_memory_bytes", **own) > 20e6
    assert value_of(page, "signalbox_event_loop_lag_seconds_count", **own) > 0


def test_speaks_openmetrics_to_those_who_ask(standing: Plane) -> None:
    asked = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
    answer = httpx.get(f"{standing.url}/metrics", headers=asked)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    assert value_of(answer.text, "signalbox_ready") == 1
    plain = httpx.get(f"{standing.url}/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert [name for name, _, _ in samples_of(plain.text)].count("signalbox_ready") == 1


def test_takes_no_other_method(standing: Plane) -> None:
    answer = httpx.post(f"{standing.url}/metrics")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    head = httpx.head(f"{standing.url}/metrics")
    assert (head.status_code, head.content) == (200, b"")


def test_asks_a_forwarded_caller_for_a_key_that_may_read(standing: Plane) -> None:
    def status(**headers: str) -> int:
        return httpx.get(f"{standing.url}/metrics", headers={"X-Forwarded-For": "203.0.113.9"} | headers).status_code

    assert status() == 401
    assert status(Authorization=f"Bearer {READER}") == 200
    assert status(Authorization=f"Bearer {OPERATOR}") == 200
    assert status(**HEADERS) == 403  # it may predict, and not see what others do


@pytest.mark.parametrize(
    ("settings", "peer", "headers", "asked"),
    [
        ({}, "127.0.0.1", [], False),
        ({}, "::1", [], False),
        ({}, "", [], False),
        ({}, "203.0.113.9", [], True),
        ({}, "nonsense", [], True),
        ({}, "127.0.0.1", ["x-forwarded-for"], True),
        ({"https": True}, "127.0.0.1", [], True),
        ({"public_predict_url": "https://predict.example.org"}, "127.0.0.1", [], True),
        ({"metrics_open": True}, "203.0.113.9", ["via"], False),
    ],
)
def test_trusts_only_callers_of_this_machine_and_none_behind_a_proxy(settings, peer: str, headers: list[str], asked: bool) -> None:
    from core.environment import Environment

    assert needs_key(Environment(**settings), peer, headers) is asked


def test_one_scrape_tells_of_every_process_and_its_restart_starts_new_series(plane: Plane) -> None:
    build = models.regressor(plane.artifacts)
    plane.keep(table([build], [endpoint('odd"name\\', build, limits=Limits(), validation=ValidationPolicy())], keys=(KEY_ENTRY,)))
    plane.start()
    assert plane.process is not None
    port = free_port()
    environ = os.environ | {"SIGNALBOX_VAR_DIR": str(plane.var_dir), "DATABASE_URL": plane.database_url}
    other = subprocess.Popen([sys.executable, "-m", "serving.dataplane", "--port", str(port)], cwd=ROOT, env=environ)
    both = {str(plane.process.pid), str(other.pid)}

    def told() -> dict[str, float]:
        return {labels["pid"]: value for name, labels, value in samples_of(_page(plane)) if name == "signalbox_process_up"}

    try:
        wait_for(lambda: told() == dict.fromkeys(both, 1.0), "both processes")
        other.send_signal(signal.SIGSTOP)
        assert told() == {str(plane.process.pid): 1, str(other.pid): 0}
        assert value_of(_page(plane), "signalbox_in_flight_requests", endpoint='odd"name\\', pid=str(plane.process.pid)) == 0
    finally:
        other.kill()
        other.wait()
    assert told() == {str(plane.process.pid): 1}
    assert [path.name for path in (plane.var_dir / "run" / "metrics").glob("[!.]*")] == [f"dataplane.{plane.process.pid}"]
