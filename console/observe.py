"""Watches every request to the console: gives it an id, times it, counts it. Knows no page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from axes.signals import user_locked_out
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.db import connection
from django.http import HttpRequest, HttpResponseBase
from prometheus_client import Counter, Histogram

from access.models import Person
from access.requests import REQUEST_ID, KeyPrincipal
from core import request_ids, tracing
from core.access_log import Entry, access_log
from core.environment import environment
from core.metrics.own import OWN

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REQUESTS = Histogram(
    "signalbox_http_request_duration_seconds",
    "Time from a request to the console until its answer begins, by the address's name; empty for static files and what does not exist.",
    ["view", "method", "status"],
    registry=OWN,
    buckets=_BUCKETS,
)
_DATABASE = Counter("signalbox_http_database_seconds", "Time in the database while requests were answered.", ["view"], registry=OWN)
_QUERIES = Counter("signalbox_http_database_queries", "Queries while requests were answered.", ["view"], registry=OWN)
_UPLOADS = Counter("signalbox_uploads", "Requests with files, by the status of their answer.", ["status"], registry=OWN)
_UPLOADED = Counter("signalbox_upload_bytes", "Bytes of the requests with files that were taken.", registry=OWN)
_SIGN_INS = Counter("signalbox_sign_ins", "Attempts to sign in: signed_in, refused, or locked_out after too many.", ["outcome"], registry=OWN)


class Observe:
    """Middleware; it stands first, so that it sees what the others answer too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._log = access_log(environment(), "console")

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        begun = time.perf_counter()
        identifier = request_ids.accepted(request.headers.get(request_ids.HEADER, "")) or request_ids.fresh()
        request.META[REQUEST_ID] = identifier
        queries = _Queries()
        parent = request.headers.get("traceparent", "")
        with tracing.span("console", str(request.method), "server", parent) as span, connection.execute_wrapper(queries):
            response = self.get_response(request)
            if span is not None:
                _describe(span, request, response, queries)
        response[request_ids.HEADER] = identifier
        seconds = time.perf_counter() - begun
        _count(request, response, seconds, queries)
        if self._log is not None:
            self._log.add(_entry(request, response, seconds))
        return response


class _Queries:
    """Times the queries of one request."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            self.count += 1
            self.seconds += time.perf_counter() - begun


def _count(request: HttpRequest, response: HttpResponseBase, seconds: float, queries: _Queries) -> None:
    view, status = view_name(request), str(response.status_code)
    method = request.method if request.method in _METHODS else "other"
    _REQUESTS.labels(view, method, status).observe(seconds)
    if queries.count:
        _DATABASE.labels(view).inc(queries.seconds)
        _QUERIES.labels(view).inc(queries.count)
    if request.content_type == "multipart/form-data":
        _UPLOADS.labels(status).inc()
        length = str(request.META.get("CONTENT_LENGTH") or "")
        _UPLOADED.inc(int(length) if length.isdecimal() and response.status_code < 400 else 0)


def _describe(span: Span, request: HttpRequest, response: HttpResponseBase, queries: _Queries) -> None:
    route = request.resolver_match.route if request.resolver_match else ""
    span.update_name(f"{request.method} /{route}".rstrip())
    span.set_attributes(
        {
            "http.request.method": str(request.method),
            "http.route": f"/{route}",
            "http.response.status_code": response.status_code,
            "signalbox.request_id": str(request.META[REQUEST_ID]),
            "signalbox.queries": queries.count,
        }
    )
    if response.status_code >= 500:
        from opentelemetry.trace import StatusCode

        span.set_status(StatusCode.ERROR)


def _entry(request: HttpRequest, response: HttpResponseBase, seconds: float) -> Entry:
    length = str(request.META.get("CONTENT_LENGTH") or "")
    return Entry(
        at_us=int((time.time() - seconds) * 1e6),
        status=response.status_code,
        latency_us=int(seconds * 1e6),
        bytes_in=int(length) if length.isdecimal() else 0,
        bytes_out=0 if response.streaming else len(getattr(response, "content", b"")),
        request_id=str(request.META[REQUEST_ID]),
        method=str(request.method),
        path=_path(request),
        actor=_actor(request),
    )


def _path(request: HttpRequest) -> str:
    """Give the path without the question, which may hold what somebody searched for; a sign-in link's secret stays out too."""
    match = request.resolver_match
    return f"/{match.route}" if match and "token" in match.kwargs else request.path


def _actor(request: HttpRequest) -> str:
    """Say who asked, if the request has found it out already: no query is made for it."""
    user = request.__dict__.get("user")
    if type(user) is KeyPrincipal:  # not isinstance: that would look the person up
        return user.actor.id
    person = request.__dict__.get("_cached_user")
    return f"person:{person.pk}" if isinstance(person, Person) else ""


def view_name(request: HttpRequest) -> str:
    """Give the name of the address, empty where there is none."""
    return str(request.resolver_match.view_name or "") if request.resolver_match else ""


def count_sign_ins() -> None:
    """Listen to Django's and django-axes' signals; called once, when the apps are ready."""
    for signal, outcome in ((user_logged_in, "signed_in"), (user_login_failed, "refused"), (user_locked_out, "locked_out")):
        counter = _SIGN_INS.labels(outcome)
        signal.connect(lambda counter=counter, **_: counter.inc(), weak=False, dispatch_uid=f"signalbox sign-ins {outcome}")
