"""Celery entry points of the core."""

from __future__ import annotations

from celery import shared_task

from core import jobs


@shared_task(name="core.tasks.sweep")
def sweep() -> None:
    """Every few seconds: nothing that was accepted is forgotten."""
    jobs.sweep()
