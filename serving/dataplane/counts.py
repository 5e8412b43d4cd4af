"""Traffic counts of this process in windows of 10 seconds, written with absolute values so that a retry is harmless."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from serving.latency import BUCKETS, bucket_of

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


class TrafficCounts:
    """The windows of this process that are still open or not yet written."""

    def __init__(self, process: UUID) -> None:
        self._process = process
        self._windows: dict[Key, Counts] = {}

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
            cursor.executemany(_UPSERT, [(datetime.fromtimestamp(key[0], UTC), *key[1:], self._process, *values) for key, values in windows])
        for key, values in windows:
            if key[0] + WINDOW_S < now - 1 and self._windows[key].values() == values:
                del self._windows[key]

    def forget_oldest(self) -> None:
        """Bound the memory while Postgres is away."""
        oldest = int(time.time()) - _KEPT_WINDOWS * WINDOW_S
        for key in [key for key in list(self._windows) if key[0] < oldest]:
            del self._windows[key]
