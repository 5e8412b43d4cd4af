"""OpenTelemetry traces, when its own variables ask for them; else nothing of it is imported and nothing is done. No Django.

Needs ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``; the other ``OTEL_*`` variables
mean what they mean everywhere. Spans go out as OTLP over HTTP from a thread of the SDK's.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_on() -> bool:
    """Tell whether traces are configured."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    return not off and any(os.environ.get(name) for name in _ENDPOINTS)


class Parent(NamedTuple):
    """A caller's span, as a W3C traceparent names it."""

    trace_id: int
    span_id: int
    is_sampled: bool


def parent_of(traceparent: str) -> Parent | None:
    """Read a traceparent; None for one that is missing or not valid."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return Parent(int(match[1], 16), int(match[2], 16), bool(int(match[3], 16) & 1)) if match and not traceparent.startswith("ff") else None


class Sampling:
    """Which requests are traced, by ``OTEL_TRACES_SAMPLER`` and its argument: asked for each request, so it costs next to nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = environ.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
        self._by_parent = name.startswith("parentbased_")
        kind = name.removeprefix("parentbased_")
        self.share = {"always_off": 0.0, "traceidratio": _share(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))}.get(kind, 1.0)

    def with_share(self, share: float) -> Sampling:
        """Give one that decides alike, but with this share of those whose parent does not decide."""
        other = copy.copy(self)
        other.share = share
        return other

    def wants(self, parent: Parent | None) -> bool:
        """Tell whether to trace a request: as its parent says, else by the share."""
        if parent is not None and self._by_parent:
            return parent.is_sampled
        return random.random() < self.share  # noqa: S311  # a sample, not a secret


def _share(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 1.0


NEVER = Sampling({"OTEL_TRACES_SAMPLER": "always_off"})


@cache
def sampling() -> Sampling:
    return Sampling(os.environ)


class _Provider:
    """The SDK's provider of this process. A forked child makes its own: the threads of the other are not there."""

    pid = 0
    provider: TracerProvider | None = None


def tracer(process: str) -> Tracer:
    """Give the tracer of this process; whoever asks first names it. What is to be traced is decided before, by ``sampling``."""
    if _Provider.pid != os.getpid() or _Provider.provider is None:
        _Provider.pid, _Provider.provider = os.getpid(), _made(process)
    return _Provider.provider.get_tracer("signalbox")


def _made(process: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    attributes: dict[str, str | int] = {"signalbox.process": process, "process.pid": os.getpid()}
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes["service.name"] = "signalbox"
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(attributes))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def context_of(parent: Parent | None) -> Context:
    """Give the context under which a span of ``parent`` is made; an empty one without."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)), Context())


@contextlib.contextmanager
def span(process: str, name: str, kind: str, traceparent: str = "", attributes: Mapping[str, Any] | None = None) -> Iterator[Span | None]:
    """Trace what is done inside, under ``traceparent`` if there is one; gives None when it is not traced.

    ``kind`` is ``server`` or ``consumer``. An exception is noted at the span and goes on.
    """
    parent = parent_of(traceparent) if is_on() else None
    if not is_on() or not sampling().wants(parent):
        yield None
        return
    from opentelemetry.trace import SpanKind

    made = tracer(process).start_as_current_span(name, context_of(parent), SpanKind[kind.upper()], attributes=attributes)
    with made as current:
        yield current


def present_traceparent() -> str:
    """Give the traceparent of the span that is open in this thread, empty without one; it goes with a job's row."""
    if not is_on():
        return ""
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context.is_valid else ""


def flush() -> None:
    """Send what is still waiting, for a process that ends."""
    if _Provider.provider is not None and _Provider.pid == os.getpid():
        _Provider.provider.shutdown()
