"""Reads of the job table for the system page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q

from core.clock import now
from core.models import Job
from core.paging import ROWS, Page, page_of

RECENT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class JobCount:
    """The jobs of one kind: open now, and ended dead within the last day."""

    kind: str
    queued: int
    running: int
    dead: int
    oldest_queued_at: datetime | None


def job_counts() -> list[JobCount]:
    """Count open and lately dead jobs by kind. One query, by index; jobs that are done are not looked at."""
    dead = Q(state=Job.State.DEAD, ended_at__gt=now() - RECENT)
    queued = Q(state=Job.State.QUEUED)
    rows = (
        Job.objects.filter(Q(state__in=[Job.State.QUEUED, Job.State.RUNNING]) | dead)
        .values("kind")
        .annotate(
            queued=Count("id", filter=queued),
            running=Count("id", filter=Q(state=Job.State.RUNNING)),
            dead=Count("id", filter=dead),
            oldest_queued_at=Min("created_at", filter=queued),
        )
        .order_by("kind")
    )
    return [JobCount(**row) for row in rows]


def jobs_page(*, state: str = "", cursor: str | None = None, limit: int = ROWS) -> Page[Job]:
    """Give jobs, newest first. One query."""
    jobs = Job.objects.filter(state=state) if state else Job.objects.all()
    return page_of(jobs, order=["-id"], cursor=cursor, limit=limit)
