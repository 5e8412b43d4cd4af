"""When windows start, which windows of an endpoint are judged, and the lock that keeps two judges apart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import Q

from monitoring import bins, profile
from monitoring.models import LENGTH, Level, Reference, WindowProfile
from monitoring.profile import Profile
from monitoring.reference import document_of

HORIZON = {Level.FIVE_MINUTES: timedelta(hours=1), Level.HOUR: timedelta(hours=6), Level.DAY: timedelta(days=4)}
"""How far back a window still says something about now."""


def start_of(moment: datetime, level: int) -> datetime:
    """Give the start of the window of ``level`` seconds that holds ``moment``, aware UTC."""
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % level, UTC)


def end_of(start: datetime, level: int) -> datetime:
    """Give the first moment after the window."""
    return start + LENGTH[level]


def spanning(since: datetime, until: datetime) -> Q:
    """Choose the fewest windows that hold what came from ``since``, a full hour, to ``until``: whole days, and the hours around them."""
    first, last = start_of(since + LENGTH[Level.DAY] - timedelta(seconds=1), Level.DAY), start_of(until, Level.DAY)
    if first >= last:
        return Q(level=Level.HOUR, start_at__gte=since)
    days = Q(level=Level.DAY, start_at__gte=first, start_at__lt=last)
    return days | Q(level=Level.HOUR, start_at__gte=since, start_at__lt=first) | Q(level=Level.HOUR, start_at__gte=last)


def lock_endpoint(endpoint: str) -> None:
    """Wait until nobody else judges ``endpoint``; held until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"monitoring:{endpoint}"])


def merged(rows: Iterable[WindowProfile], reference: Reference | None) -> Profile:
    """Merge profiles of slots or windows, counted in the bins of ``reference``."""
    total = Profile()
    for row in rows:
        total = profile.merge(total, in_bins_of(row, reference))
    return total


def in_bins_of(row: WindowProfile, reference: Reference | None) -> Profile:
    """Decode a window; counts of another reference's bins are made anew from its sketches."""
    found = profile.decode(row.document)
    if reference is None or row.reference == reference.id:
        return found
    return bins.rebin(found, document_of(reference))


def judged_windows(windows: Iterable[tuple[int, datetime, int]], *, minimum_rows: int, needed: int, at: datetime) -> tuple[int, list[datetime]] | None:
    """Choose the finest level with ``needed`` recent windows of at least ``minimum_rows`` rows.

    ``windows`` are (level, start, rows) of one version. Gives the level and the starts of its large
    enough windows, newest first; falls back to the finest level with any; None when there is none.
    """
    recent: dict[int, list[datetime]] = {level: [] for level in Level}
    for level, start, rows in windows:
        if rows >= minimum_rows and end_of(start, level) > at - HORIZON[Level(level)]:
            recent[level].append(start)
    for wanted in (needed, 1):
        for level in Level:
            if len(recent[level]) >= wanted:
                return level, sorted(recent[level], reverse=True)
    return None
