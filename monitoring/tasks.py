"""Celery entry points of monitoring. Each may be lost, doubled or run twice at once."""

from __future__ import annotations

import logging

from celery import shared_task

from monitoring.evaluate import evaluate_waiting
from monitoring.join_outcomes import join_parked
from monitoring.measure_performance import measure_waiting
from monitoring.profile_segments import profile_segments
from monitoring.reference import ensure_references
from monitoring.retention import delete_old
from monitoring.watch_builds import watch_builds

logger = logging.getLogger(__name__)

BATCHES = 20
"""At most so many batches a run; the next run goes on, and another worker may help."""


@shared_task(name="monitoring.tasks.profile", ignore_result=True, expires=60)
def profile() -> None:
    """Every 15 seconds: what was logged becomes profiles, profiles become verdicts, outcomes become performance."""
    ensure_references()
    for _ in range(BATCHES):
        if not profile_segments():
            break
    join_parked()
    evaluate_waiting()
    measure_waiting()


@shared_task(name="monitoring.tasks.watch_builds", ignore_result=True, expires=30)
def watch_builds_of_the_data_plane() -> None:
    """Every 10 seconds: builds that ended processes become alerts."""
    watch_builds()


@shared_task(name="monitoring.tasks.delete_old", ignore_result=True)
def delete_old_windows() -> None:
    """Every hour: fine windows make room, coarse ones stay."""
    delete_old()
