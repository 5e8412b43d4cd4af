"""Reads of what API keys have used: today, in all, and day by day. As fresh as the last heartbeat of each process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

from django.db.models import Q, Sum

from access.models import ApiKey
from core.clock import now
from serving.models import KeyUsage

DAYS = 30


@dataclass(frozen=True, slots=True)
class Used:
    """What was answered."""

    requests: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class DayUsed(Used):
    """What was answered on one day, UTC."""

    day: date = date.min


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What one key has used; ``days`` are those of the last 30 on which it was used, newest first."""

    today: Used = field(default_factory=Used)
    in_all: Used = field(default_factory=Used)
    days: tuple[DayUsed, ...] = ()


def usage_of(key_id: str) -> KeyUse:
    """Give what the key has used. Two queries, over one row per day and a few more for the last days."""
    today = now().date()
    rows = KeyUsage.objects.filter(key_id=key_id)
    recent = rows.filter(day__gt=today - timedelta(days=DAYS), day__lte=today)
    sums = recent.values_list("day").annotate(requests=Sum("requests"), rows=Sum("rows")).order_by("-day")
    days = tuple(DayUsed(requests, used, day) for day, requests, used in sums)
    return KeyUse(
        today=next((Used(each.requests, each.rows) for each in days if each.day == today), Used()),
        in_all=_used(rows.aggregate(requests=Sum("requests"), rows=Sum("rows"))),
        days=days,
    )


def usage_of_each(keys: Iterable[ApiKey]) -> dict[str, KeyUse]:
    """Give today's use of each key, and what it has used in all where that is limited. One query."""
    listed = {key.id: key for key in keys}
    today = now().date()
    wanted = Q(key_id__in=list(listed), day=today) | Q(key_id__in=[key.id for key in listed.values() if key.limits.get("rows_in_all")])
    sums = (
        KeyUsage.objects.filter(wanted)
        .values("key_id")
        .annotate(
            today_requests=Sum("requests", filter=Q(day=today)),
            today_rows=Sum("rows", filter=Q(day=today)),
            all_requests=Sum("requests"),
            all_rows=Sum("rows"),
        )
    )
    found = {
        each["key_id"]: KeyUse(Used(each["today_requests"] or 0, each["today_rows"] or 0), Used(each["all_requests"] or 0, each["all_rows"] or 0))
        for each in sums
    }
    return {key_id: found.get(key_id, KeyUse()) for key_id in listed}


def _used(sums: dict[str, int | None]) -> Used:
    return Used(sums["requests"] or 0, sums["rows"] or 0)
