"""Celery entry points of the registry."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from core import jobs
from registry.check import check_version as check
from registry.collect import collect_leftovers as collect
from registry.compare_answers import run_comparison


@shared_task(name="registry.tasks.check_version")
def check_version(job_id: str) -> None:
    """Check the version that the job names, in the sandbox's own queue."""
    jobs.run(job_id, lambda job: check(UUID(job.subject), job))


@shared_task(name="registry.tasks.collect_leftovers")
def collect_leftovers() -> None:
    """Every few minutes: a part of what killed processes left goes away."""
    collect()


@shared_task(name="registry.tasks.compare_answers")
def compare_answers(job_id: str) -> None:
    """Compare what two versions answer, in the sandbox's own queue."""
    jobs.run(job_id, lambda job: run_comparison(UUID(job.subject), job))
