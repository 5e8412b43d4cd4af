"""Watches calls for the access log and for traces. Without either there is no watcher, and a call pays for one comparison.

On the answer's path only times are noted and one record is appended; lines and spans are made by threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core import tracing
from core.access_log import AccessLog, Entry, access_log
from core.environment import Environment
from serving import segments
from serving.dataplane.ids import text_of

if TYPE_CHECKING:
    from serving.dataplane.batch import Joined
    from serving.dataplane.call import Call, Head

logger = logging.getLogger(__name__)

_EVERY_S = 0.2
_MOST_WAITING = 10_000
_FLAGS = {getattr(segments, name): name.removeprefix("FLAG_").lower() for name in dir(segments) if name.startswith("FLAG_")}


class Watched:
    """What is noted of one call, on the performance counter's clock: decoded, its batch begun, run from, and run."""

    __slots__ = ("begun", "decoded", "flags", "run", "run_from")

    def __init__(self) -> None:
        self.decoded = time.perf_counter()
        self.begun = self.run_from = self.run = 0.0
        self.flags = 0


class Watcher:
    """Called by the engine, in the event loop's thread."""

    def __init__(self, log: AccessLog | None, traces: Traces | None) -> None:
        self._log, self.traces = log, traces

    @property
    def dropped(self) -> tuple[int, int]:
        """Lines of the access log and traces that were dropped."""
        return self._log.dropped if self._log else 0, self.traces.dropped if self.traces else 0

    def decoded(self, call: Call) -> None:
        """The call's body is read, and it is about to be queued."""
        call.watched = Watched()

    def settled(self, calls: list[Call], joined: Joined, now: float, run_s: float) -> None:
        """The calls' batch has run."""
        start = 0
        for call in calls:
            watched = call.watched
            if watched is not None:
                watched.begun, watched.run_from, watched.run = joined.begun, now - run_s, now
                if joined.flags is not None:
                    watched.flags = int(np.bitwise_or.reduce(joined.flags[start : start + call.rows]))
            start += call.rows

    def answered(self, call: Call, status: int, size: int) -> None:
        """The call's answer is about to be written."""
        now = time.perf_counter()
        if self.traces is not None:
            self.traces.add(call, status, now)
        if self._log is None:
            return
        slot = call.slot
        self._log.add(
            Entry(
                call.received_us,
                status,
                int((now - call.received) * 1e6),
                len(call.body),
                size,
                call.head.request_id or call.request_id or "",
                "POST",
                call.path(),
                call.key_id or "",
                call.endpoint.name if call.endpoint else "",
                slot.name if slot else "",
                slot.version if slot else "",
                call.rows,
                text_of(call.id).decode() if call.id else "",
                (call.watched.flags if call.watched else 0) | (segments.FLAG_DEMO if call.head.demo else 0),
            )
        )

    def told(self, head: Head, method: str, path: str, begun: float, answer: tuple[int, int, int]) -> None:
        """A call that is no prediction was answered: with status, and bytes in and out."""
        if self._log is not None:
            status, bytes_in, bytes_out = answer
            latency_us = int((time.perf_counter() - begun) * 1e6)
            at_us = time.time_ns() // 1000 - latency_us
            self._log.add(Entry(at_us, status, latency_us, bytes_in, bytes_out, head.request_id or "", method, path))

    def stop(self) -> None:
        """Write and send what is left."""
        if self._log is not None:
            self._log.stop()
        if self.traces is not None:
            self.traces.stop()


def watcher(environment: Environment, process: str) -> Watcher | None:
    """Give what the settings ask for, None when nothing is to be watched."""
    log = access_log(environment, process, _FLAGS)
    traces = Traces(process) if tracing.is_on() else None
    return Watcher(log, traces) if log or traces else None


class _Record(NamedTuple):
    name: str
    parent: tracing.Parent | None
    status: int
    received_us: int
    received: float
    watched: Watched | None
    answered: float
    attributes: dict[str, Any]


class Traces:
    """Makes spans of answered calls, in a thread of its own; what comes too fast is dropped and counted."""

    def __init__(self, process: str) -> None:
        self._process = process
        self.sample({}, tracing.sampling())
        self._waiting: deque[_Record] = deque()
        self.dropped = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def sample(self, by_endpoint: dict[str, tracing.Sampling], others: tracing.Sampling) -> None:
        """From now on choose calls so. For any thread."""
        self._by_endpoint, self._others = by_endpoint, others

    def add(self, call: Call, status: int, now: float) -> None:
        """Take an answered call if it is to be traced."""
        parent = tracing.parent_of(call.head.traceparent) if call.head.traceparent else None
        if not self._by_endpoint.get(call.endpoint.name if call.endpoint else "", self._others).wants(parent):
            return
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            return
        name, attributes = call.span(status)
        self._waiting.append(_Record(name, parent, status, call.received_us, call.received, call.watched, now, attributes | _attributes(call)))

    def stop(self) -> None:
        """Send what is left."""
        self._stopping.set()
        self._thread.join(timeout=5)
        tracing.flush()

    def _run(self) -> None:
        tracer = tracing.tracer(self._process)
        while not self._stopping.wait(_EVERY_S):
            self._make_all(tracer)
        self._make_all(tracer)

    def _make_all(self, tracer: Any) -> None:
        for _ in range(len(self._waiting)):
            try:
                _make(tracer, self._waiting.popleft())
            except Exception:  # the thread's edge: one span's failure must not end the others
                logger.exception("A span could not be made.")


def _attributes(call: Call) -> dict[str, Any]:
    slot = call.slot
    found: dict[str, Any] = {
        "signalbox.endpoint": call.endpoint.name if call.endpoint else "",
        "signalbox.rows": call.rows,
        "signalbox.prediction_id": text_of(call.id).decode() if call.id else "",
        "signalbox.request_id": call.head.request_id or call.request_id or "",
    }
    if slot is not None:
        found |= {"signalbox.slot": slot.name, "signalbox.model": slot.entry.model, "signalbox.version": slot.version, "signalbox.log": slot.log_policy}
    return found


def _make(tracer: Any, record: _Record) -> None:
    """Make the span of a call, and one for each part of its way that it has come through."""
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

    def at(moment: float) -> int:
        return int(record.received_us * 1000 + (moment - record.received) * 1e9)

    start = at(record.received)
    root = tracer.start_span(record.name, tracing.context_of(record.parent), SpanKind.SERVER, attributes=record.attributes, start_time=start)
    inside = set_span_in_context(root, Context())
    for part, begin, end in _parts(record):
        tracer.start_span(part, inside, start_time=at(begin)).end(at(end))
    if record.status >= 500:
        root.set_status(Status(StatusCode.ERROR))
    root.end(at(record.answered))


def _parts(record: _Record) -> list[tuple[str, float, float]]:
    """Give the parts with their begin and end. A call that was refused has come through some only."""
    watched = record.watched
    if watched is None:
        return [("decode", record.received, record.answered)]
    decoded = ("decode", record.received, watched.decoded)
    if not watched.run:
        return [decoded, ("queue", watched.decoded, record.answered)]
    return [
        decoded,
        ("queue", watched.decoded, watched.begun),
        ("validate", watched.begun, watched.run_from),
        ("run", watched.run_from, watched.run),
        ("log", watched.run, record.answered),
    ]
