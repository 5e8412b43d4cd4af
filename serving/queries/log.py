"""Reads of how the prediction log fares: what was lost, and what compaction did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max, Sum

from core.clock import now
from serving.models import Compaction, LostPredictions

COMPACTED_WITHIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Lost:
    """Answered predictions that are not in the log, within its retention."""

    endpoint: str
    predictions: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compaction did within a day."""

    segments_before: int
    segments_after: int
    bytes_before: int
    bytes_after: int


def lost_at(endpoint: str) -> Lost | None:
    """Give what an endpoint lost; None when nothing. One query."""
    found = LostPredictions.objects.filter(endpoint=endpoint).aggregate(predictions=Sum("predictions"), last_at=Max("at"))
    return Lost(endpoint, found["predictions"], found["last_at"]) if found["predictions"] else None


def lost_everywhere() -> list[Lost]:
    """Give what each endpoint lost, the last one first. One query."""
    rows = LostPredictions.objects.values("endpoint").annotate(sum=Sum("predictions"), last_at=Max("at")).order_by("-last_at")
    return [Lost(row["endpoint"], row["sum"], row["last_at"]) for row in rows]


def compacted() -> Compacted | None:
    """Give what compaction did within a day; None when nothing. One query."""
    names = ("segments_before", "segments_after", "bytes_before", "bytes_after")
    sums = Compaction.objects.filter(at__gte=now() - COMPACTED_WITHIN).aggregate(**{name: Sum(name) for name in names})
    return Compacted(**sums) if sums["segments_before"] else None
