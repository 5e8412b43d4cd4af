"""Bells of a real broker while no worker takes them: their number is bounded, and whatever is lost rings again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
from django.db.models.functions import Now

from config.beat import MOST_WAITING, Scheduler
from config.celery import app as celery_app
from core import bell, jobs
from core.environment import environment
from core.models import Job

CHECK = "registry.tasks.check_version"


@pytest.fixture(autouse=True)
def empty_queues() -> Iterator[None]:
    _empty("work", "sandbox")
    yield
    _empty("work", "sandbox")


def _empty(*queues: str) -> None:
    with redis.Redis.from_url(environment().redis_url) as broker:
        broker.delete(*queues)


def _queued(kind: str, number: int) -> None:
    old = Now() - jobs.QUEUED_TOO_LONG - timedelta(seconds=1)
    for subject in range(number):
        Job.objects.create(kind=kind, subject=str(subject), due_at=old)


def _sweep() -> int:
    rung = jobs.sweep()
    assert bell.wait(10)
    return rung


def test_rings_no_more_than_a_bounded_number_of_bells_while_no_worker_is_there(db: None) -> None:
    _queued(CHECK, 250)
    assert [_sweep() for _ in range(5)] == [200, 0, 0, 0, 0]
    assert (bell.waiting("sandbox"), bell.waiting("work")) == (200, 0)


def test_rings_again_for_everything_that_the_broker_has_lost(db: None) -> None:
    _queued("tests.work", 3)
    assert (_sweep(), bell.waiting("work")) == (3, 3)
    _empty("work")
    assert (_sweep(), bell.waiting("work")) == (3, 3)


def test_a_full_queue_keeps_no_bell_from_another(db: None) -> None:
    _queued(CHECK, 250)
    _sweep()
    _queued("tests.work", 2)
    assert (_sweep(), bell.waiting("work")) == (2, 2)


def test_starts_no_periodic_task_into_a_queue_that_nobody_empties(tmp_path) -> None:
    scheduler = Scheduler(celery_app, schedule_filename=str(tmp_path / "schedule"))
    entry = (scheduler.get_schedule() or {})["sweep-jobs"]
    assert (entry.options or {})["expires"] == 60.0
    with celery_app.connection_for_write() as connection:
        for _ in range(MOST_WAITING - 1):
            celery_app.send_task("tests.work", connection=connection)
    assert scheduler.apply_async(entry, advance=False) is not None
    assert bell.waiting("work") == MOST_WAITING
    assert scheduler.apply_async(entry, advance=False) is None
    assert bell.waiting("work") == MOST_WAITING
    scheduler.close()
