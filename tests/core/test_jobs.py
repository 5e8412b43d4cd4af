"""Jobs: claimed once, fenced by attempt, taken back when the worker is lost, dead after three attempts."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from config.celery import app as celery_app
from core import bell, jobs
from core.models import Job
from core.queries import JobCount, job_counts

KIND = "tests.work"


@pytest.fixture(autouse=True)
def bells(monkeypatch) -> list[str]:
    """What was rung; the broker is another test's matter."""
    rung: list[str] = []
    monkeypatch.setattr(celery_app, "send_task", lambda kind, args, **_: rung.append(args[0]))
    return rung


def _expire(job: Job) -> None:
    Job.objects.filter(id=job.id).update(lease_until_at=Now() - timedelta(seconds=1))


def _due_now(job: Job) -> None:
    Job.objects.filter(id=job.id).update(due_at=Now() - timedelta(seconds=1))


def test_rings_when_the_transaction_commits_and_not_before(transactional_db, bells):
    with transaction.atomic():
        job = jobs.enqueue(kind=KIND, subject="a")
        assert bells == []
    assert bell.wait(5)
    assert bells == [str(job.id)]


def test_forgets_the_job_when_the_transaction_rolls_back(transactional_db, bells):
    with transaction.atomic():
        jobs.enqueue(kind=KIND, subject="a")
        transaction.set_rollback(True)
    assert bells == []
    assert Job.objects.count() == 0


def test_gives_back_the_open_job_of_the_same_kind_and_subject(db):
    first = jobs.enqueue(kind=KIND, subject="a")
    assert jobs.enqueue(kind=KIND, subject="a") == first
    assert jobs.enqueue(kind=KIND, subject="b") != first
    assert Job.objects.count() == 2


def test_makes_a_new_job_when_the_open_one_ends_before_it_is_read(db):
    first = jobs.enqueue(kind=KIND, subject="a")
    ended: list[int] = []

    def end_first(execute, sql, params, many, context):
        if sql.startswith("SELECT") and not ended:
            ended.append(1)
            Job.objects.filter(id=first.id).update(state="done", ended_at=Now())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(end_first):
        second = jobs.enqueue(kind=KIND, subject="a")
    assert ended == [1]
    assert (second.id != first.id, second.state) == (True, "queued")


def test_runs_the_work_once_when_the_message_comes_twice(db):
    job, seen = jobs.enqueue(kind=KIND, subject="a"), []
    assert jobs.run(str(job.id), lambda claimed: seen.append(claimed.attempt))
    assert not jobs.run(str(job.id), lambda claimed: seen.append(claimed.attempt))
    job.refresh_from_db()
    assert (seen, job.state, job.attempt) == ([1], "done", 1)
    assert job.ended_at is not None


def test_lets_one_of_two_workers_have_the_job(transactional_db):
    job, seen, together = jobs.enqueue(kind=KIND, subject="a"), [], threading.Barrier(2)

    def worker() -> None:
        try:
            together.wait()
            jobs.run(str(job.id), lambda claimed: seen.append(claimed.attempt))
        finally:
            connection.close()

    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1]


def test_does_not_begin_before_the_job_is_due(db):
    job = jobs.enqueue(kind=KIND, subject="a")
    Job.objects.filter(id=job.id).update(due_at=Now() + timedelta(minutes=1))
    assert not jobs.run(str(job.id), lambda _: pytest.fail("too early"))


def _fail(_: Job) -> None:
    raise RuntimeError("no luck")


def test_puts_a_failed_job_back_and_ends_it_dead_after_three_attempts(db, monkeypatch):
    told: list[str] = []
    monkeypatch.setitem(jobs.on_dead, KIND, lambda job: told.append(job.error))
    job = jobs.enqueue(kind=KIND, subject="a")
    states = []
    for _ in range(3):
        _due_now(job)
        assert not jobs.run(str(job.id), _fail)
        job.refresh_from_db()
        states.append((job.state, job.attempt, job.error))
    assert states == [("queued", 1, "RuntimeError: no luck"), ("queued", 2, "RuntimeError: no luck"), ("dead", 3, "RuntimeError: no luck")]
    assert told == ["RuntimeError: no luck"]
    assert not jobs.run(str(job.id), _fail)


def test_refuses_the_late_result_of_a_lost_attempt(db):
    job, outcome = jobs.enqueue(kind=KIND, subject="a"), []

    def slow(claimed: Job) -> None:
        _expire(claimed)
        jobs.sweep()
        assert jobs.run(str(job.id), lambda second: outcome.append(second.attempt))
        with pytest.raises(jobs.JobLost), transaction.atomic():
            jobs.hold(claimed)
        jobs.renew(claimed)

    assert not jobs.run(str(job.id), slow)
    job.refresh_from_db()
    assert (outcome, job.state, job.attempt) == ([2], "done", 2)


def test_takes_an_expired_lease_back_and_rings_at_once(transactional_db, bells):
    job = jobs.enqueue(kind=KIND, subject="a")
    Job.objects.filter(id=job.id).update(state="running", attempt=1, lease_until_at=Now() - timedelta(seconds=1))
    jobs.sweep()
    job.refresh_from_db()
    assert (job.state, job.attempt, job.lease_until_at) == ("queued", 1, None)
    assert bell.wait(5)
    assert bells == [str(job.id)] * 2


def test_ends_a_job_dead_whose_worker_was_lost_three_times(db, monkeypatch):
    told: list[str] = []
    monkeypatch.setitem(jobs.on_dead, KIND, lambda job: told.append(job.error))
    job = jobs.enqueue(kind=KIND, subject="a")
    Job.objects.filter(id=job.id).update(state="running", attempt=3, lease_until_at=Now() - timedelta(seconds=1))
    jobs.sweep()
    jobs.sweep()
    job.refresh_from_db()
    assert (job.state, told) == ("dead", ["The worker was lost three times."])


def test_one_job_that_cannot_be_ended_keeps_no_other_waiting(db, bells, monkeypatch):
    def fail(job: Job) -> None:
        raise ValueError("this job cannot be ended")

    monkeypatch.setitem(jobs.on_dead, KIND, fail)
    bad, good = jobs.enqueue(kind=KIND, subject="a"), jobs.enqueue(kind=KIND, subject="b")
    lost = {"state": "running", "lease_until_at": Now() - timedelta(seconds=1)}
    Job.objects.filter(id=bad.id).update(attempt=3, **lost)
    Job.objects.filter(id=good.id).update(attempt=1, **lost)
    jobs.sweep()
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.state, bad.state) == ("queued", "running")


def test_keeps_the_error_of_a_job_whatever_bytes_it_quotes(db, caplog):
    caplog.set_level(logging.CRITICAL, logger="core.jobs")  # a lone surrogate cannot travel in a test report
    job = jobs.enqueue(kind=KIND, subject="a")

    def fail(_: Job) -> None:
        raise ValueError("the file says \0 and \ud800")

    assert not jobs.run(str(job.id), fail)
    job.refresh_from_db()
    assert (job.state, job.error) == ("queued", "ValueError: the file says \ufffd and ?")


def test_leaves_a_running_job_with_a_good_lease_alone(db):
    job = jobs.enqueue(kind=KIND, subject="a")
    Job.objects.filter(id=job.id).update(state="running", attempt=1, lease_until_at=Now() + timedelta(seconds=5))
    assert jobs.sweep() == 0
    job.refresh_from_db()
    assert job.state == "running"


def test_rings_again_for_what_is_queued_too_long(db, bells):
    job = jobs.enqueue(kind=KIND, subject="a")
    assert jobs.sweep() == 0
    Job.objects.filter(id=job.id).update(due_at=Now() - jobs.QUEUED_TOO_LONG - timedelta(seconds=1))
    assert jobs.sweep() == 1
    assert bell.wait(5)
    assert bells == [str(job.id)]


def test_renews_the_lease_while_the_work_takes_its_time(transactional_db, monkeypatch):
    monkeypatch.setattr(jobs, "RENEWAL_S", 0.05)
    job, renewed = jobs.enqueue(kind=KIND, subject="a"), threading.Event()

    def slow(claimed: Job) -> None:
        before = claimed.lease_until_at
        for _ in range(100):
            if Job.objects.filter(id=claimed.id, lease_until_at__gt=before).exists():
                renewed.set()
                return
            renewed.wait(0.05)

    assert jobs.run(str(job.id), slow)
    assert renewed.is_set()


def test_counts_open_and_lately_dead_jobs_in_one_query(db, django_assert_num_queries):
    queued = jobs.enqueue(kind=KIND, subject="a")
    Job.objects.create(kind=KIND, subject="b", state="running")
    Job.objects.create(kind=KIND, subject="c", state="dead", ended_at=Now())
    Job.objects.create(kind=KIND, subject="d", state="dead", ended_at=Now() - timedelta(days=2))
    Job.objects.create(kind=KIND, subject="e", state="done", ended_at=Now())
    with django_assert_num_queries(1):
        assert job_counts() == [JobCount(KIND, queued=1, running=1, dead=1, oldest_queued_at=queued.created_at)]
