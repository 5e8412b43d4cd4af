"""Roll up traffic: ten-second windows of all processes become one five-minute window; old ones are deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from core.clock import now
from serving.latency import BUCKETS
from serving.models import Compaction, DataPlaneProcess, LostPredictions, TrafficWindow, ValidationCount
from serving.queries.system import FORGOTTEN_AFTER

TEN_SECONDS_KEPT = timedelta(hours=2, minutes=10)
# A process that lost the database writes up to an hour late. Windows this young are counted again each minute,
# and all that are still whole every so many minutes.
COUNTED_AGAIN = timedelta(minutes=30)
WHOLE_EVERY_MINUTES = 10
_SETTLED = timedelta(seconds=15)
_NOBODY = UUID(int=0)
_FIVE_MINUTES = 300

# One statement, so that a reader sees all of a window or none; the sums are absolute, so twice is harmless.
_SUM = """
WITH part AS (
    SELECT to_timestamp(floor(extract(epoch FROM start_at) / 300) * 300) AS begins, endpoint, slot, version, requests, rows, refused, errors, flagged,
           cache_hits, latency
    FROM serving_trafficwindow WHERE level = 10 AND start_at >= %(begin)s AND start_at < %(end)s
), counted AS (
    SELECT begins, endpoint, slot, version, sum(requests) AS requests, sum(rows) AS rows, sum(refused) AS refused, sum(errors) AS errors,
           sum(flagged) AS flagged, sum(cache_hits) AS cache_hits
    FROM part GROUP BY begins, endpoint, slot, version
), buckets AS (
    SELECT begins, endpoint, slot, version, bucket, sum(count) AS count
    FROM part, unnest(latency) WITH ORDINALITY AS spread(count, bucket) GROUP BY begins, endpoint, slot, version, bucket
), histogram AS (
    SELECT begins, endpoint, slot, version, array_agg(count::bigint ORDER BY bucket) AS latency FROM buckets GROUP BY begins, endpoint, slot, version
)
INSERT INTO serving_trafficwindow (level, start_at, endpoint, slot, version, process, requests, rows, refused, errors, flagged, cache_hits, latency)
SELECT 300, begins, endpoint, slot, version, %(nobody)s, requests, rows, refused, errors, flagged, cache_hits,
       coalesce(latency, array_fill(0::bigint, ARRAY[%(buckets)s]))
FROM counted LEFT JOIN histogram USING (begins, endpoint, slot, version)
ON CONFLICT (level, start_at, endpoint, slot, version, process) DO UPDATE SET requests = excluded.requests, rows = excluded.rows,
    refused = excluded.refused, errors = excluded.errors, flagged = excluded.flagged, cache_hits = excluded.cache_hits, latency = excluded.latency
"""


def roll_up_traffic() -> int:
    """Sum every closed five minutes of the ten-second windows that are still there and may have changed; gives the windows written."""
    moment = now()
    end = _floor(moment - _SETTLED)
    begin = _begin(moment)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_SUM, {"begin": begin, "end": end, "nobody": _NOBODY, "buckets": BUCKETS})
        return int(cursor.rowcount)


def delete_old_windows() -> int:
    """Delete ten-second windows after two hours and five-minute ones after the retention of the prediction log."""
    moment = now()
    fine, _ = TrafficWindow.objects.filter(level=TrafficWindow.Level.TEN_SECONDS, start_at__lt=_floor(moment - TEN_SECONDS_KEPT)).delete()
    kept = timedelta(days=settings.ENVIRONMENT.log_retention_days)
    coarse, _ = TrafficWindow.objects.filter(level=TrafficWindow.Level.FIVE_MINUTES, start_at__lt=moment - kept).delete()
    return fine + coarse


def delete_old_notes() -> int:
    """Forget what was lost, what was compacted and what validation did once the log itself is past its retention; gives the rows deleted."""
    limit = now() - timedelta(days=settings.ENVIRONMENT.log_retention_days)
    hours, _ = ValidationCount.objects.filter(start_at__lt=limit).delete()
    return hours + sum(model.objects.filter(at__lt=limit).delete()[0] for model in (LostPredictions, Compaction))


def forget_processes() -> int:
    """Forget data-plane processes that have not been seen for a minute."""
    forgotten, _ = DataPlaneProcess.objects.filter(seen_at__lt=now() - FORGOTTEN_AFTER).delete()
    return forgotten


def _begin(moment: datetime) -> datetime:
    """Now and then, and after a pause of the workers, everything that is still whole is summed; else what is young."""
    whole = _floor(moment - TEN_SECONDS_KEPT) + timedelta(seconds=_FIVE_MINUTES)
    if moment.minute % WHOLE_EVERY_MINUTES == 0:
        return whole
    coarse = TrafficWindow.objects.filter(level=TrafficWindow.Level.FIVE_MINUTES)
    latest = coarse.order_by("-start_at").values_list("start_at", flat=True).first()
    return max(whole, min(latest, _floor(moment - COUNTED_AGAIN))) if latest else whole


def _floor(moment: datetime) -> datetime:
    return datetime.fromtimestamp(int(moment.timestamp()) // _FIVE_MINUTES * _FIVE_MINUTES, UTC)
