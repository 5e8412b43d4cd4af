"""The console's page /metrics: what was asked is counted exactly, and who may read it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from access.keys import create_key
from core import jobs
from core.clock import now
from core.environment import environment
from core.metrics.own import OWN
from core.metrics.siblings import Sibling
from core.models import Job
from monitoring.models import Alert
from tests.metrics_page import value_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def told() -> Iterator[None]:
    """This process can be asked, as a console's worker can."""
    sibling = Sibling(environment().run_dir, "console", OWN.collect)
    sibling.start()
    yield
    sibling.stop()


def _value(name: str, **labels: str) -> float:
    """Read the page; a busy machine may not have this process answer within the scrape's second, and the page then says so."""
    for _ in range(20):
        answer = Client().get("/metrics")
        assert answer.status_code == 200
        text = answer.content.decode()
        if value_of(text, "signalbox_process_up", process="console"):
            break
    return value_of(text, name, **labels)


def test_counts_requests_by_view_method_and_status(client_of) -> None:
    labels = {"view": "endpoints", "method": "GET", "status": "200", "process": "console"}
    before = _value("signalbox_http_request_duration_seconds_count", **labels)
    queries = _value("signalbox_http_database_queries_total", view="endpoints")
    assert client_of("viewer").get("/endpoints/").status_code == 200
    assert _value("signalbox_http_request_duration_seconds_count", **labels) == before + 1
    assert _value("signalbox_http_database_queries_total", view="endpoints") > queries
    assert _value("signalbox_http_database_seconds_total", view="endpoints") > 0


def test_counts_what_does_not_exist_under_no_name() -> None:
    before = _value("signalbox_http_request_duration_seconds_count", view="", status="404")
    assert Client().get("/guess-1/").status_code == 404
    assert Client().generic("GUESS", "/guess-2/").status_code == 404
    assert _value("signalbox_http_request_duration_seconds_count", view="", status="404") == before + 2
    assert _value("signalbox_http_request_duration_seconds_count", view="", method="other") >= 1
    assert "guess" not in Client().get("/metrics").content.decode().lower()


def test_counts_uploads_and_the_bytes_that_were_taken(client_of) -> None:
    before = _value("signalbox_uploads_total"), _value("signalbox_upload_bytes_total")
    refused = Client().post("/api/v1/models/m/versions/", {"file": SimpleUploadedFile("m.onnx", b"x" * 1000)})
    assert refused.status_code in {401, 404}
    assert (_value("signalbox_uploads_total"), _value("signalbox_upload_bytes_total")) == (before[0] + 1, before[1])


def test_counts_sign_ins_and_refusals(viewer) -> None:
    before = {outcome: _value("signalbox_sign_ins_total", outcome=outcome) for outcome in ("signed_in", "refused")}
    Client().post("/sign-in/", {"username": "viewer", "password": "not it"})
    Client().post("/sign-in/", {"username": "viewer", "password": "viewer of the tests"})
    assert {outcome: _value("signalbox_sign_ins_total", outcome=outcome) for outcome in before} == {outcome: count + 1 for outcome, count in before.items()}


def test_tells_what_waits_in_the_database() -> None:
    moment = now()
    for number, state in enumerate((Job.State.QUEUED, Job.State.QUEUED, Job.State.RUNNING)):
        Job.objects.create(kind="a.kind", subject=str(number), state=state, created_at=moment - timedelta(seconds=100), lease_until_at=moment)
    Alert.objects.create(endpoint="e", model="m", version=1, cause="drift", dedup_key="k", severity="severe", title="t", first_at=moment, last_at=moment)
    assert _value("signalbox_database_up") == 1
    assert _value("signalbox_jobs", kind="a.kind", state="queued") == 2
    assert _value("signalbox_jobs", kind="a.kind", state="running") == 1
    assert _value("signalbox_oldest_queued_job_age_seconds", kind="a.kind") == pytest.approx(100, abs=20)
    assert _value("signalbox_overdue_job_leases") == 1
    assert _value("signalbox_alerts", state="open", severity="severe") == 1
    assert _value("signalbox_alerts", state="acknowledged", severity="severe") == 0
    assert _value("signalbox_unprofiled_segments") == 0


@pytest.mark.django_db(transaction=True)
def test_counts_attempts_at_jobs_and_what_became_of_them() -> None:
    def attempts() -> dict[str, float]:
        return {outcome: _value("signalbox_job_attempts_total", kind="a.kind", outcome=outcome) for outcome in ("done", "failed", "taken_over")}

    before, expired = attempts(), _value("signalbox_job_leases_expired_total", kind="a.kind")
    due = now() - timedelta(seconds=1)
    assert jobs.run(str(Job.objects.create(kind="a.kind", subject="good", due_at=due).id), lambda job: None)
    assert not jobs.run(str(Job.objects.create(kind="a.kind", subject="bad", due_at=due).id), _fail)
    Job.objects.create(kind="a.kind", subject="lost", state=Job.State.RUNNING, attempt=1, lease_until_at=now() - timedelta(seconds=1))
    jobs.sweep()
    assert attempts() == {"done": before["done"] + 1, "failed": before["failed"] + 1, "taken_over": before["taken_over"]}
    assert _value("signalbox_job_leases_expired_total", kind="a.kind") == expired + 1


def _fail(job: Job) -> None:
    raise ValueError(job.subject)


def test_asks_the_database_a_fixed_number_of_questions(django_assert_num_queries) -> None:
    with django_assert_num_queries(7):
        Client().get("/metrics")


def test_still_answers_without_a_database(settings) -> None:
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = "there_is_none"
    try:
        assert _value("signalbox_database_up") == 0
        assert _value("signalbox_process_up", process="console") == 1
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name


def test_asks_others_than_this_machine_for_a_key_that_may_read(admin) -> None:
    def status(scope: str = "", **how: str) -> int:
        headers = {"Authorization": f"Bearer {create_key(actor=admin, name=scope, scopes=[scope]).text}"} if scope else {}
        return Client(headers=headers).get("/metrics", **how).status_code  # type: ignore[arg-type]  # the rest is WSGI's environ

    assert status(REMOTE_ADDR="203.0.113.9") == 401
    assert status(HTTP_X_FORWARDED_FOR="203.0.113.9") == 401
    assert status("read", REMOTE_ADDR="203.0.113.9") == 200
    assert status("predict", REMOTE_ADDR="203.0.113.9") == 403
    stranger = Client(REMOTE_ADDR="203.0.113.9").get("/metrics")
    assert (stranger["Content-Type"], stranger.json()["code"]) == ("application/problem+json", "not_signed_in")
    assert stranger["WWW-Authenticate"] == 'Bearer realm="signalbox"'
    assert Client(headers={"Authorization": "Bearer sbx_nonsense"}, REMOTE_ADDR="203.0.113.9").get("/metrics").status_code == 401
    assert Client().post("/metrics").status_code == 405


def test_gives_every_answer_the_id_of_its_request() -> None:
    assert Client(headers={"X-Request-Id": "order-7"}).get("/sign-in/")["X-Request-Id"] == "order-7"
    refused = Client(headers={"X-Request-Id": "order-8"}).get("/api/v1/models/")
    assert (refused.status_code, refused["X-Request-Id"]) == (401, "order-8")
    own = {Client(headers={"X-Request-Id": given}).get("/sign-in/")["X-Request-Id"] for given in ("", "a" * 129, "two words", '"><script>')}
    assert len(own) == 4
    assert all(len(identifier) == 36 for identifier in own)
