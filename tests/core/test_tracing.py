"""Traces of the console and of jobs, sent to a real receiver: who is whose parent, and that nothing goes out unasked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from core import jobs, tracing
from core.clock import now
from core.models import Job
from core.tracing import Parent, Sampling, parent_of
from tests.otlp import Receiver

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
PARENT = Parent(int(TRACE, 16), int(CALLER, 16), True)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Give a receiver that this process sends to."""
    receiver = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    tracing.sampling.cache_clear()
    yield receiver
    tracing.flush()
    tracing._Provider.provider = None
    tracing.sampling.cache_clear()
    receiver.stop()


@pytest.mark.django_db
def test_traces_a_request_to_the_console_under_the_callers_span(receiver: Receiver) -> None:
    Client(headers={"traceparent": TRACEPARENT, "X-Request-Id": "order-7"}).get("/sign-in/?next=/secret")
    tracing.flush()
    (span,) = receiver.spans
    assert (span.name, span.trace, span.parent, span.kind, span.is_error) == ("GET /sign-in/", TRACE, CALLER, 2, False)
    assert span.attributes.pop("signalbox.queries") >= 0
    assert span.attributes == {"http.request.method": "GET", "http.route": "/sign-in/", "http.response.status_code": 200, "signalbox.request_id": "order-7"}
    assert span.resource["signalbox.process"] == "console"


@pytest.mark.django_db
def test_names_a_sign_in_link_by_its_pattern_alone(receiver: Receiver) -> None:
    Client().get("/sign-in/a-secret-token/")
    tracing.flush()
    assert [span.name for span in receiver.spans] == ["GET /sign-in/<str:token>/"]
    assert "a-secret-token" not in str(receiver.spans)


@pytest.mark.django_db
def test_a_job_goes_on_under_the_span_that_queued_it(receiver: Receiver) -> None:
    with tracing.span("console", "queues", "server", TRACEPARENT):
        job = jobs.enqueue(kind="a.kind", subject="s")
    Job.objects.filter(id=job.id).update(due_at=now() - timedelta(seconds=1))
    assert jobs.run(str(job.id), lambda _: None)
    tracing.flush()
    spans = {span.name: span for span in receiver.spans}
    assert set(spans) == {"queues", "job a.kind"}
    assert (spans["job a.kind"].trace, spans["job a.kind"].parent, spans["job a.kind"].kind) == (TRACE, spans["queues"].id, 5)
    assert spans["job a.kind"].attributes == {"signalbox.job": str(job.id), "signalbox.subject": "s", "signalbox.attempt": 1}


@pytest.mark.django_db
def test_a_failed_attempt_is_an_error(receiver: Receiver) -> None:
    job = Job.objects.create(kind="a.kind", subject="s", due_at=now() - timedelta(seconds=1))
    assert not jobs.run(str(job.id), _fail)
    tracing.flush()
    assert [(span.name, span.parent, span.is_error) for span in receiver.spans] == [("job a.kind", "", True)]


def _fail(job: Job) -> None:
    raise ValueError(job.subject)


@pytest.mark.django_db
def test_nothing_goes_out_unasked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}):
        with monkeypatch.context() as patched:
            for name, value in settings.items():
                patched.setenv(name, value)
            Client(headers={"traceparent": TRACEPARENT}).get("/sign-in/")
            assert jobs.enqueue(kind="a.kind", subject=str(settings)).traceparent == ""
    tracing.flush()
    assert receiver.requests == 0


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        (TRACEPARENT, PARENT),
        (f"00-{TRACE}-{CALLER}-00", PARENT._replace(is_sampled=False)),
        (f"01-{TRACE}-{CALLER}-01-more", PARENT),
        (f"ff-{TRACE}-{CALLER}-01", None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (TRACEPARENT.upper(), None),
        ("", None),
        ("00-x", None),
    ],
)
def test_reads_a_traceparent(text: str, parent: Parent | None) -> None:
    assert parent_of(text) == parent


@pytest.mark.parametrize(
    ("environ", "parent", "share"),
    [
        ({}, None, 1),
        ({}, PARENT._replace(is_sampled=False), 0),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, PARENT, 0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, PARENT, 1),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, None, 0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, PARENT, 0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, PARENT._replace(is_sampled=False), 1),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nonsense"}, None, 1),
    ],
)
def test_samples_as_the_variables_say(environ: dict[str, str], parent: Parent | None, share: int) -> None:
    assert [Sampling(environ).wants(parent) for _ in range(50)] == [bool(share)] * 50


def test_a_share_of_the_requests_is_traced() -> None:
    sampling: Any = Sampling({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    assert 2000 < sum(sampling.wants(None) for _ in range(10_000)) < 3000
