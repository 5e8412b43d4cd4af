"""Traffic counts of this process in windows of 10 seconds, written with absolute values so that a retry is harmless."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from core.errors import SignalboxError
from serving.latency import BUCKETS, add, bucket_of

WINDOW_S = 10
_KEPT_WINDOWS = 360
"""An hour without Postgres is made up for; older windows are dropped."""

_UPSERT = """
INSERT INTO serving_trafficwindow
    (level, start_at, endpoint, slot, version, process, requests, rows, refused, errors, flagged, cache_hits, latency)
VALUES (10, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (level, start_at, endpoint, slot, version, process) DO UPDATE SET
    requests = EXCLUDED.requests, rows = EXCLUDED.rows, refused = EXCLUDED.refused, errors = EXCLUDED.errors,
    flagged = EXCLUDED.flagged, cache_hits = EXCLUDED.cache_hits, latency = EXCLUDED.latency
"""
Key = tuple[int, str, str, int]


class Counts:
    """One window of one slot. Only the event loop's thread writes here."""

    __slots__ = ("cache_hits", "errors", "flagged", "latency", "refused", "requests", "rows")

    def __init__(self) -> None:
        self.requests = self.rows = self.refused = self.errors = self.flagged = self.cache_hits = 0
        self.latency = [0] * BUCKETS

    def add_latency(self, latency_us: float) -> None:
        self.latency[bucket_of(latency_us)] += 1

    def values(self) -> tuple[Any, ...]:
        """Give the columns from ``requests`` on."""
        return (self.requests, self.rows, self.refused, self.errors, self.flagged, self.cache_hits, list(self.latency))

    def add(self, other: Counts) -> None:
        """Add what another window of the same slot has counted."""
        self.requests += other.requests
        self.rows += other.rows
        self.refused += other.refused
        self.errors += other.errors
        self.flagged += other.flagged
        self.cache_hits += other.cache_hits
        add(self.latency, other.latency)


class TrafficCounts:
    """The windows of this process that are still open or not yet written."""

    def __init__(self, process: UUID) -> None:
        self.process = process
        self._windows: dict[Key, Counts] = {}
        self._ended: dict[tuple[str, str, int], Counts] = {}
        self._ending = threading.Lock()

    def of(self, endpoint: str, slot: str, version: int) -> Counts:
        """Give the present window of a slot; ``slot`` is empty for what was refused before one was chosen."""
        key = (int(time.time()) // WINDOW_S * WINDOW_S, endpoint, slot, version)
        counts = self._windows.get(key)
        if counts is None:
            counts = self._windows[key] = Counts()
        return counts

    def write(self, connection: Connection[Any]) -> None:
        """Upsert every window in one transaction; those that have ended are then forgotten."""
        now = time.time()
        windows = [(key, counts.values()) for key, counts in list(self._windows.items())]
        if not windows:
            return
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(_UPSERT, [(datetime.fromtimestamp(key[0], UTC), *key[1:], self.process, *values) for key, values in windows])
        for key, values in windows:
            if key[0] + WINDOW_S < now - 1 and self._windows[key].values() == values:
                self._end(key)

    def forget_oldest(self) -> None:
        """Bound the memory while Postgres is away."""
        oldest = int(time.time()) - _KEPT_WINDOWS * WINDOW_S
        for key in [key for key in list(self._windows) if key[0] < oldest]:
            self._end(key)

    def totals(self) -> dict[tuple[str, str, int], Counts]:
        """Give what was counted since the process started, by endpoint, slot and version; for any thread."""
        totals: dict[tuple[str, str, int], Counts] = {}
        with self._ending:
            for key, window in [*self._ended.items(), *((key[1:], window) for key, window in list(self._windows.items()))]:
                totals.setdefault(key, Counts()).add(window)
        return totals

    def _end(self, key: Key) -> None:
        """Forget a window; what it counted stays in the totals."""
        with self._ending:
            self._ended.setdefault(key[1:], Counts()).add(self._windows.pop(key))


class RefusedCounts:
    """What was not answered since the process started, by where it was counted, status and code. The event loop's thread writes here."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, int, int, str], int] = {}
        self.seconds: dict[tuple[str, str, int], float] = {}

    def add(self, where: tuple[str, str, int], error: SignalboxError, latency_us: float) -> None:
        """Count one; ``where`` is its window's endpoint, slot and version."""
        key = (*where, error.status, error.code)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.seconds[where] = self.seconds.get(where, 0.0) + latency_us / 1e6


class LoopLag:
    """How late the event loop's timers were, in the buckets of ``serving.latency``."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.seconds = 0.0
        self._due = 0.0

    def add(self, moment: float, period_s: float) -> None:
        """Note that the timer fires at ``moment``; it is set again for ``period_s`` from then on."""
        if self._due:
            late_s = max(0.0, moment - self._due)
            self.seconds += late_s
            self.counts[bucket_of(late_s * 1e6)] += 1
        self._due = moment + period_s
