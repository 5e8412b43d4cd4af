"""What validation did with values outside the signature, by the hour: written to Postgres with absolute values, so that a retry is harmless.

The slots count it since the process started; here is what each look adds to that. A kill loses what came
since the last write, some seconds at most; without Postgres a day is kept.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from serving.dataplane.live import SlotStats

HOUR_S = 3600
_KEPT_HOURS = 24
"""Older ones are dropped; after two days the workers may have put them together with others'."""
CHECKED = ("", "checked")
"""Stands for a feature and an action: the rows that were checked. One answered from the cache is not checked again."""
_UPSERT = """
INSERT INTO serving_validationcount (start_at, endpoint, slot, version, feature, action, process, count) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (start_at, endpoint, slot, version, feature, action, process) DO UPDATE SET count = EXCLUDED.count
"""
Labels = tuple[str, str, str]
"""Endpoint, slot and version."""
Key = tuple[Labels, tuple[str, str]]


class ValidationCounts:
    """The hours of this process that have not ended or are not written yet. For the heartbeat's thread alone."""

    def __init__(self, process: UUID) -> None:
        self._process = process
        self._totals: dict[Key, int] = {}
        self._hours: dict[tuple[int, Key], int] = {}
        self._unwritten: set[tuple[int, Key]] = set()

    def look(self, stats: Mapping[Labels, SlotStats]) -> None:
        """Add what the slots have counted since the last look to the present hour."""
        hour = int(time.time()) // HOUR_S * HOUR_S
        for labels, each in list(stats.items()):
            for what, total in [(CHECKED, each.rows - each.cached_rows), *list(each.actions.items())]:
                key = (labels, what)
                more = total - self._totals.get(key, 0)
                if more > 0:
                    self._totals[key] = total
                    self._hours[hour, key] = self._hours.get((hour, key), 0) + more
                    self._unwritten.add((hour, key))
        oldest = hour - _KEPT_HOURS * HOUR_S
        self._forget([place for place in self._hours if place[0] < oldest])

    def write(self, connection: Connection[Any], endpoints: Collection[str]) -> None:
        """Write what has changed, and forget the hours that have ended.

        What was counted at an endpoint that is gone is forgotten too: one that is made again under the name begins with nothing.
        """
        rows = [
            (datetime.fromtimestamp(hour, UTC), endpoint, slot, int(version), feature, action, self._process, self._hours[hour, key])
            for hour, key in self._unwritten
            for (endpoint, slot, version), (feature, action) in [key]
        ]
        if rows:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(_UPSERT, sorted(rows))
        self._unwritten.clear()
        hour = int(time.time()) // HOUR_S * HOUR_S
        self._forget([place for place in self._hours if place[0] < hour or place[1][0][0] not in endpoints])

    def _forget(self, places: list[tuple[int, Key]]) -> None:
        for place in places:
            del self._hours[place]
            self._unwritten.discard(place)
