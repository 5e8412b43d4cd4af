"""The data plane's metrics: its own counters as Prometheus families, and the page /metrics of all its processes.

Nothing is counted for this page alone that the answer's path would feel; most of it is read from what the
statistics, the traffic windows and the heartbeat need anyway. ``docs/reference/metrics.md`` names them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from access.rights import RIGHTS_OF_SCOPE, Right
from core.environment import Environment
from core.errors import SignalboxError
from core.metrics.exposition import cumulative, gauge
from core.metrics.openness import REFUSAL, needs_key
from core.metrics.siblings import gather
from serving.dataplane.call import JSON, Headers
from serving.dataplane.engine import Engine
from serving.dataplane.errors import Denied, NotAllowed
from serving.dataplane.live import BATCH_BUCKETS, Routes, SlotStats
from serving.dataplane.problems import body_of
from serving.latency import EDGES_US
from serving.table import KeyEntry

PROCESSES = {"http": "dataplane", "grpc": "grpc"}
"""The label ``process`` by the transport."""
_PER_DECADE = (0, 3, 7)  # of the ten edges of a decade about 1, 2 and 5
_STEPS = [index for index in range(len(EDGES_US)) if index % 10 in _PER_DECADE]
_EDGES_S = [EDGES_US[index] / 1e6 for index in _STEPS]
_SLOT = ["endpoint", "slot", "version"]


_COUNTERS: list[tuple[str, str, Callable[[SlotStats], float]]] = [
    ("signalbox_answered_requests", "Requests that a slot answered. A shadow slot's are copies that nobody got.", lambda stats: stats.success_count),
    ("signalbox_failed_requests", "Requests that a slot had taken and that were answered with an error.", lambda stats: stats.fail_count),
    ("signalbox_answered_rows", "Rows answered.", lambda stats: stats.rows),
    ("signalbox_cache_hits", "Requests answered from the slot's answer cache, without a run.", lambda stats: stats.cache_hits),
    ("signalbox_cache_misses", "Requests that were looked for in the answer cache and not found.", lambda stats: stats.cache_misses),
    ("signalbox_run_seconds", "Time inside the model, in sum.", lambda stats: stats.run_us / 1e6),
    ("signalbox_queue_seconds", "Time from requests' arrival until their batch began, in sum.", lambda stats: stats.queue_us / 1e6),
]


class Page:
    """Answers /metrics: for every process of the data plane on this machine, whichever of them was reached."""

    def __init__(self, engine: Engine, environment: Environment) -> None:
        self._engine, self._environment = engine, environment

    async def answer(self, method: str, peer: str, headers: dict[bytes, bytes]) -> tuple[int, Headers, bytes]:
        """Answer, errors too. The others are asked in a thread."""
        try:
            if method not in {"GET", "HEAD"}:
                raise NotAllowed("Use GET.")
            if needs_key(self._environment, peer, (name.decode("latin-1") for name in headers)):
                _require(self._engine.authorize(headers.get(b"authorization"), headers.get(b"x-api-key")))
        except SignalboxError as error:
            self._engine.count_refusal(error)
            return error.status, JSON + (b"allow: GET\r\n" if isinstance(error, NotAllowed) else b""), body_of(error)
        accept = headers.get(b"accept", b"").decode("latin-1")
        content_type, body = await asyncio.get_running_loop().run_in_executor(None, gather, self._environment.run_dir, PROCESSES.values(), accept)
        return 200, b"content-type: %b\r\n" % content_type.encode(), body


def _require(key: KeyEntry) -> None:
    """Return if the key may see everything that the page tells."""
    if key.endpoints or not any(Right.SYSTEM_VIEW in RIGHTS_OF_SCOPE.get(scope, ()) for scope in key.scopes):
        raise Denied(REFUSAL)


def collect(engine: Engine) -> Iterator[Metric]:
    """Give this process's families. Called in a thread: what it reads may grow meanwhile, and never shrinks."""
    yield gauge("signalbox_ready", "1 while the process takes requests.", engine.is_ready)
    yield from _requests(engine)
    yield from _slots(engine)
    yield from _log(engine)
    yield _loop_lag(engine)
    lines, traces = engine.watcher.dropped if engine.watcher is not None else (0, 0)
    yield CounterMetricFamily("signalbox_access_log_dropped_lines", "Lines of the access log that could not be written.", value=lines)
    yield CounterMetricFamily("signalbox_dropped_traces", "Traces of predictions that came faster than they could be made.", value=traces)
    if engine.routes is not None:
        yield from _table(engine.routes)


def _requests(engine: Engine) -> Iterator[Metric]:
    """Give what the traffic windows count, since the start of the process."""
    durations = HistogramMetricFamily(
        "signalbox_request_duration_seconds", "Time from a request's arrival to its answer. Slot and version are empty for what no slot answered.", labels=_SLOT
    )
    flagged = CounterMetricFamily("signalbox_flagged_rows", "Answered rows with a value outside the signature.", labels=_SLOT)
    refused = CounterMetricFamily(
        "signalbox_refused_requests", "Requests that were answered with an error, by its status and reason.", labels=[*_SLOT, "status", "reason"]
    )
    for (endpoint, slot, number), counts in engine.counts.totals().items():
        version = str(number or "")
        stats = engine.stats.get((endpoint, slot, version))
        seconds = engine.refusals.seconds.get((endpoint, slot, number), 0.0) + (stats.success_us / 1e6 if stats else 0.0)
        durations.add_metric([endpoint, slot, version], _coarse(counts.latency), seconds)
        if slot:
            flagged.add_metric([endpoint, slot, version], counts.flagged)
    for (endpoint, slot, number, status, reason), count in list(engine.refusals.counts.items()):
        refused.add_metric([endpoint, slot, str(number or ""), str(status), reason], count)
    yield from (durations, flagged, refused)


def _slots(engine: Engine) -> Iterator[Metric]:
    """Give what each slot has counted since the start of the process."""
    counters = [(CounterMetricFamily(name, text, labels=_SLOT), read) for name, text, read in _COUNTERS]
    batches = HistogramMetricFamily("signalbox_batch_rows", "Rows that ran together.", labels=_SLOT)
    actions = CounterMetricFamily(
        "signalbox_validation_actions",
        "What was done with values outside the signature: values clipped, replaced, flagged or filled in; requests refused.",
        labels=[*_SLOT, "feature", "action"],
    )
    for labels, stats in list(engine.stats.items()):
        for family, read in counters:
            family.add_metric(labels, read(stats))
        batches.add_metric(labels, _batch_buckets(stats), stats.rows - stats.cached_rows)
        for (feature, action), count in list(stats.actions.items()):
            actions.add_metric([*labels, feature, action], count)
    yield from (family for family, _ in counters)
    yield from (batches, actions)


def _log(engine: Engine) -> Iterator[Metric]:
    log = engine.log
    batches, oldest_us = log.waiting()
    yield gauge("signalbox_log_waiting_batches", "Answered batches that are neither in Postgres nor in the spool yet.", batches)
    lag_s = max(0.0, time.time() - oldest_us / 1e6) if oldest_us else 0.0
    yield gauge("signalbox_log_lag_seconds", "Age of the oldest of those batches; 0 without any.", lag_s)
    yield gauge("signalbox_log_spooled_segments", "Log segments on disk that wait for Postgres, of all processes of the machine.", log.spooled_segments)
    lost = CounterMetricFamily("signalbox_log_lost_predictions", "Answered predictions that could be logged nowhere.", labels=["endpoint", "slot"])
    for labels, predictions in log.lost.items():
        lost.add_metric(labels, predictions)
    yield lost


def _loop_lag(engine: Engine) -> Metric:
    family = HistogramMetricFamily("signalbox_event_loop_lag_seconds", "How late the event loop came to a timer, looked at every 50 ms.", labels=[])
    family.add_metric([], _coarse(engine.loop_lag.counts), engine.loop_lag.seconds)
    return family


def _table(routes: Routes) -> Iterator[Metric]:
    yield gauge("signalbox_route_table_revision", "The route table that is answered from.", routes.revision)
    yield gauge("signalbox_route_table_published_timestamp_seconds", "When that route table was published.", routes.table.published_at)
    builds = GaugeMetricFamily(
        "signalbox_build_loaded", "1 for a build in memory, 0 for one that the next call loads or that cannot be loaded.", labels=["model", "version", "digest"]
    )
    present = {slot.entry.digest for endpoint in routes.endpoints.values() for slot in endpoint.slots if slot.build.runtime is not None}
    for entry in routes.table.builds:
        builds.add_metric([entry.model, str(entry.version), entry.digest[:12]], entry.digest in present)
    in_flight = GaugeMetricFamily("signalbox_in_flight_requests", "Requests taken and not answered yet.", labels=["endpoint"])
    queued = GaugeMetricFamily("signalbox_queued_requests", "Requests that wait for the next batch of a slot.", labels=_SLOT)
    for endpoint in routes.endpoints.values():
        in_flight.add_metric([endpoint.name], endpoint.flight.calls)
        for slot in endpoint.slots:
            queued.add_metric([endpoint.name, slot.name, slot.version], len(slot.batcher.pending))
    yield from (builds, in_flight, queued)


def _coarse(counts: list[int]) -> list[tuple[str, float]]:
    """Give Prometheus' buckets of a latency histogram: three of its ten edges per decade, so that a slot has 22 and not 72."""
    ends = [*_STEPS, len(EDGES_US)]
    starts = [0, *(end + 1 for end in ends)]
    return cumulative(_EDGES_S, [sum(counts[start : end + 1]) for start, end in zip(starts, ends, strict=False)])


def _batch_buckets(stats: SlotStats) -> list[tuple[str, float]]:
    return cumulative([2**power for power in range(BATCH_BUCKETS - 1)], stats.batch_rows)
