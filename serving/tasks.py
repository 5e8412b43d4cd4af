"""Celery entry points of serving. Each may run twice, or twice at once."""

from __future__ import annotations

from celery import shared_task

from core import jobs
from serving import compact, roll_up, roll_up_usage, roll_up_validation
from serving import delete_old as old
from serving import seal as sealing


@shared_task(name="serving.tasks.roll_up_traffic")
def roll_up_traffic() -> None:
    """Every minute: sum what has closed, delete what is summed, forget processes that are gone, seal what came late."""
    roll_up.roll_up_traffic()
    roll_up.delete_old_windows()
    roll_up.forget_processes()
    sealing.seal_strays()


@shared_task(name="serving.tasks.delete_old")
def delete_old() -> None:
    """Every hour: delete logged predictions after their retention, and then what is noted of the log."""
    old.delete_old()
    roll_up.delete_old_notes()


@shared_task(name=sealing.KIND)
def seal(job_id: str) -> None:
    """Seal the log of the deleted endpoint that the job names."""
    jobs.run(job_id, sealing.seal)


@shared_task(name="serving.tasks.compact_log")
def compact_log() -> None:
    """Every minute: small segments of the prediction log are put together, and what was long ago is forgotten."""
    compact.compact_log()
    compact.forget_replaced()


@shared_task(name="serving.tasks.roll_up_usage")
def roll_up_key_usage() -> None:
    """Every day: what processes counted for keys, and of validation, on days long ended becomes one row for all of them."""
    roll_up_usage.roll_up_usage()
    roll_up_validation.roll_up_validation()
