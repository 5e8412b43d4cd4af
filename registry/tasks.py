"""Celery entry points of the registry."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from core import jobs
from registry.check import check_version as check


@shared_task(name="registry.tasks.check_version")
def check_version(job_id: str) -> None:
    """Check the version that the job names, in the sandbox's own queue."""
    jobs.run(job_id, lambda job: check(UUID(job.subject), job))
