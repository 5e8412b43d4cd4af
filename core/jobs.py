"""Jobs: enqueue, claim, finish, sweep. The row is the truth; the Celery message is a bell.

A message that is lost is sent again by the sweeper; one that comes twice finds the row claimed.
A worker that dies leaves a lease that expires; a late result is fenced off by the attempt number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import current_app
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from core.models import Job

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=20)
QUEUED_TOO_LONG = timedelta(seconds=20)
ATTEMPTS = 3
RETRY_DELAY = timedelta(seconds=10)


def enqueue(*, kind: str, subject: str, payload: dict[str, Any] | None = None) -> Job:
    """Queue the task named ``kind`` for ``subject``; an open job of the same kind and subject is given back.

    The bell rings when the surrounding transaction commits.
    """
    try:
        with transaction.atomic():
            job = Job.objects.create(kind=kind, subject=subject, payload=payload or {})
    except IntegrityError as error:
        if "job_one_open_per_subject" not in str(error):
            raise
        return Job.objects.get(kind=kind, subject=subject, state__in=[Job.State.QUEUED, Job.State.RUNNING])
    transaction.on_commit(lambda: ring(job.kind, job.id))
    return job


def ring(kind: str, job_id: UUID) -> None:
    """Send the bell. With Redis away nothing is lost: the sweeper rings again."""
    try:
        current_app.send_task(kind, args=[str(job_id)], retry=False)
    except (OperationalError, OSError):
        logger.warning("The broker is away; job %s waits for the sweeper.", job_id)


def run(job_id: str, work: Callable[[Job], None]) -> bool:
    """Claim the job and do ``work``; False when somebody else has it or it has ended.

    A failure puts it back with a delay; after three attempts it is dead and keeps the error.
    """
    claimed = Job.objects.filter(id=job_id, state=Job.State.QUEUED, due_at__lte=Now()).update(
        state=Job.State.RUNNING, attempt=F("attempt") + 1, lease_until_at=Now() + LEASE
    )
    if not claimed:
        return False
    job = Job.objects.get(id=job_id)
    try:
        work(job)
    except Exception as error:
        logger.exception("Job %s (%s) failed on attempt %s.", job.id, job.kind, job.attempt)
        _put_back(job, f"{type(error).__name__}: {error}")
        return False
    return finish(job)


def finish(job: Job) -> bool:
    """Mark the job done, if this attempt still owns it."""
    ours = Job.objects.filter(id=job.id, state=Job.State.RUNNING, attempt=job.attempt)
    return bool(ours.update(state=Job.State.DONE, ended_at=Now(), error=""))


def _put_back(job: Job, error: str) -> None:
    ours = Job.objects.filter(id=job.id, state=Job.State.RUNNING, attempt=job.attempt)
    if job.attempt >= ATTEMPTS:
        ours.update(state=Job.State.DEAD, ended_at=Now(), error=error)
    else:
        ours.update(state=Job.State.QUEUED, due_at=Now() + RETRY_DELAY * job.attempt, lease_until_at=None, error=error)


def sweep() -> int:
    """Take back expired leases and ring again for what is queued too long; gives the number of bells."""
    lost = Q(state=Job.State.RUNNING, lease_until_at__lt=Now())
    Job.objects.filter(lost, attempt__gte=ATTEMPTS).update(state=Job.State.DEAD, ended_at=Now(), error="The worker was lost three times.")
    Job.objects.filter(lost).update(state=Job.State.QUEUED, due_at=Now(), lease_until_at=None)
    waiting = Job.objects.filter(state=Job.State.QUEUED, due_at__lt=Now() - QUEUED_TOO_LONG).order_by("due_at")[:200]
    for job in waiting:
        ring(job.kind, job.id)
    return len(waiting)
