"""Jobs: enqueue, claim, finish, sweep. The row is the truth; the Celery message is a bell.

A message that is lost is sent again by the sweeper; one that comes twice finds the row claimed.
A worker that dies leaves a lease that expires; a late result is fenced off by the attempt number.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, IntegrityError, InterfaceError, connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from kombu.exceptions import OperationalError
from prometheus_client import Counter

from core import bell, tracing
from core.metrics.own import OWN
from core.models import Job

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
RENEWAL_S = 15.0
QUEUED_TOO_LONG = timedelta(seconds=20)
ATTEMPTS = 3
RETRY_DELAY = timedelta(seconds=10)
_BELLS = 200
"""Most messages in a queue for the sweeper to add to."""

_ATTEMPTS = Counter("signalbox_job_attempts", "Attempts at jobs: done, failed, or taken_over by another worker.", ["kind", "outcome"], registry=OWN)
_EXPIRED = Counter("signalbox_job_leases_expired", "Jobs that were taken back from a worker that had gone silent.", ["kind"], registry=OWN)
_DEAD = Counter("signalbox_jobs_dead", "Jobs that were given up after their last attempt.", ["kind"], registry=OWN)

on_dead: dict[str, Callable[[Job], None]] = {}
"""By kind: called in the transaction in which a job of that kind ends dead."""


class JobLost(Exception):
    """Another attempt owns the job, or it has ended: whatever this one would write is refused."""


def enqueue(*, kind: str, subject: str, payload: dict[str, Any] | None = None) -> Job:
    """Queue the task named ``kind`` for ``subject``; an open job of the same kind and subject is given back.

    The bell rings when the surrounding transaction commits.
    """
    while True:
        job = _create(kind, subject, payload or {}) or _open(kind, subject)
        if job is not None:  # else the open one ended between the two
            return job


def _create(kind: str, subject: str, payload: dict[str, Any]) -> Job | None:
    try:
        with transaction.atomic():
            job = Job.objects.create(kind=kind, subject=subject, payload=payload, traceparent=tracing.present_traceparent())
    except IntegrityError as error:
        if "job_one_open_per_subject" not in str(error):
            raise
        return None
    transaction.on_commit(lambda: bell.ring(job.kind, job.id))
    return job


def _open(kind: str, subject: str) -> Job | None:
    return Job.objects.filter(kind=kind, subject=subject, state__in=[Job.State.QUEUED, Job.State.RUNNING]).first()


def run(job_id: str, work: Callable[[Job], None]) -> bool:
    """Claim the job and do ``work``; False when somebody else has it or it has ended.

    A failure puts it back with a delay; after three attempts it is dead and keeps the error.
    ``work`` may call ``finish`` itself, in the transaction that writes its result.
    """
    claimed = Job.objects.filter(id=job_id, state=Job.State.QUEUED, due_at__lte=Now()).update(
        state=Job.State.RUNNING, attempt=F("attempt") + 1, lease_until_at=Now() + LEASE
    )
    if not claimed:
        return False
    job = Job.objects.get(id=job_id)
    try:
        with _traced(job), _renewed(job):
            work(job)
    except JobLost:
        _ATTEMPTS.labels(job.kind, "taken_over").inc()
        logger.warning("Job %s (%s) was taken over; attempt %s ends.", job.id, job.kind, job.attempt)
        return False
    except Exception as error:  # whatever the work does: the job is put back, says why, and the worker lives on
        logger.exception("Job %s (%s) failed on attempt %s.", job.id, job.kind, job.attempt)
        _ATTEMPTS.labels(job.kind, "failed").inc()
        _put_back(job, _storable(f"{type(error).__name__}: {error}"))
        return False
    is_done = finish(job) or Job.objects.filter(id=job.id, state=Job.State.DONE, attempt=job.attempt).exists()
    _ATTEMPTS.labels(job.kind, "done" if is_done else "taken_over").inc()
    return is_done


def _traced(job: Job) -> AbstractContextManager[object]:
    about = {"signalbox.job": str(job.id), "signalbox.subject": job.subject, "signalbox.attempt": job.attempt}
    return tracing.span("work", f"job {job.kind}", "consumer", job.traceparent, about)


def finish(job: Job) -> bool:
    """Mark the job done, if this attempt still owns it."""
    return bool(_ours(job).update(state=Job.State.DONE, ended_at=Now(), error=""))


def hold(job: Job) -> None:
    """Lock the job's row for the rest of the transaction; raises JobLost if this attempt does not own it any more."""
    if not _ours(job).select_for_update().exists():
        raise JobLost(job.id)


def renew(job: Job) -> None:
    """Lengthen the lease; raises JobLost if this attempt does not own the job any more."""
    if not _ours(job).update(lease_until_at=Now() + LEASE):
        raise JobLost(job.id)


def sweep() -> int:
    """Take back expired leases and ring again for what is queued too long; gives the number of bells."""
    for job_id in list(Job.objects.filter(state=Job.State.RUNNING, lease_until_at__lt=Now()).values_list("id", flat=True)):
        try:
            _take_back(job_id)
        except Exception:  # one job that cannot be ended must not keep the others waiting
            logger.exception("Job %s cannot be taken back.", job_id)
    waiting = Job.objects.filter(state=Job.State.QUEUED, due_at__lt=Now() - QUEUED_TOO_LONG)
    kinds: dict[str, list[str]] = {}
    for kind in waiting.values_list("kind", flat=True).distinct():
        kinds.setdefault(bell.queue_of(kind), []).append(kind)
    return sum(_ring_again(queue, waiting.filter(kind__in=found)) for queue, found in kinds.items())


def _ring_again(queue: str, waiting: QuerySet[Job]) -> int:
    """Ring for the oldest, up to so many messages in the queue: those that lie there tell of enough to do.

    So a queue whose workers are away holds a bounded number of bells, however long they stay away.
    """
    try:
        room = max(_BELLS - bell.waiting(queue), 0)
    except (OperationalError, OSError):
        logger.warning("The broker is away; the jobs of the queue %s wait for the next sweep.", queue)
        return 0
    rung = list(waiting.order_by("due_at")[:room])
    for job in rung:
        bell.ring(job.kind, job.id)
    return len(rung)


def _ours(job: Job) -> QuerySet[Job]:
    return Job.objects.filter(id=job.id, state=Job.State.RUNNING, attempt=job.attempt)


def _storable(text: str) -> str:
    """Postgres takes neither NUL nor half of a surrogate pair, and an error's text may hold any bytes of a file."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _put_back(job: Job, error: str) -> None:
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()  # the database may have gone away during the work
    with transaction.atomic():
        if not _ours(job).select_for_update().exists():
            return
        if job.attempt >= ATTEMPTS:
            _end_dead(job, error)
        else:
            _ours(job).update(state=Job.State.QUEUED, due_at=Now() + RETRY_DELAY * job.attempt, lease_until_at=None, error=error)


def _take_back(job_id: UUID) -> None:
    """Queue a job whose worker was lost again at once, or end it; two sweepers do it once."""
    with transaction.atomic():
        lost = Job.objects.filter(id=job_id, state=Job.State.RUNNING, lease_until_at__lt=Now())
        job = lost.select_for_update(skip_locked=True).first()
        if job is None:
            return
        transaction.on_commit(lambda: _EXPIRED.labels(job.kind).inc())
        if job.attempt >= ATTEMPTS:
            _end_dead(job, "The worker was lost three times.")
            return
        Job.objects.filter(id=job_id).update(state=Job.State.QUEUED, due_at=Now(), lease_until_at=None)
        transaction.on_commit(lambda: bell.ring(job.kind, job.id))


def _end_dead(job: Job, error: str) -> None:
    job.error = error
    transaction.on_commit(lambda: _DEAD.labels(job.kind).inc())
    _ours(job).update(state=Job.State.DEAD, ended_at=Now(), error=error)
    if tell := on_dead.get(job.kind):
        tell(job)


@contextmanager
def _renewed(job: Job) -> Iterator[None]:
    """Lengthen the lease from a thread for as long as the work takes: a lost worker is noticed within a minute."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(RENEWAL_S):
                _try_to_renew(job)
        except JobLost:
            logger.warning("Job %s was taken over while attempt %s ran.", job.id, job.attempt)
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"lease-{job.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _try_to_renew(job: Job) -> None:
    try:
        renew(job)
    except (DatabaseError, InterfaceError):
        logger.warning("The lease of job %s cannot be renewed: the database is away.", job.id)
        connection.close()
