"""Starts the periodic tasks, but none into a queue that nobody empties."""

from __future__ import annotations

import logging
from typing import Any

from celery.beat import PersistentScheduler
from kombu.exceptions import OperationalError

from core import bell

logger = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Messages in a queue from which on periodic tasks leave out their turns; each does at its next turn what it missed."""


class Scheduler(PersistentScheduler):
    """Celery's scheduler, which also looks how long the queue is."""

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **options: Any) -> Any:
        try:
            waiting = bell.waiting(bell.queue_of(entry.task))
        except (OperationalError, OSError):
            waiting = 0  # sending will say that the broker is away
        if waiting >= MOST_WAITING:
            logger.warning("%s waits: %s messages lie in its queue. Is a worker running?", entry.task, waiting)
            return None
        return super().apply_async(entry, producer, advance, **options)
