"""The bell: tells the workers of a job from a thread of its own, so that a broker that hangs keeps no request waiting.

What does not fit or cannot be sent is dropped: the row is the job, and the sweeper rings again.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from queue import Empty, Full, Queue
from uuid import UUID

from celery import current_app
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

_MOST_WAITING = 256
_LAST_S = 1.0


class Bell:
    """The queue of one process, and the thread that begins with its first bell."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin without thread and bells: a forked child has neither the thread nor, for certain, its locks."""
        self._waiting: Queue[tuple[str, UUID]] = Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, kind: str, job_id: UUID) -> None:
        """Send the bell soon; does not wait."""
        try:
            self._waiting.put_nowait((kind, job_id))
        except Full:
            logger.warning("Too many bells wait for the broker; job %s waits for the sweeper.", job_id)
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until every bell was sent or dropped, at most so long; tells whether they were."""
        with self._waiting.all_tasks_done:
            return self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, seconds)

    def _run(self) -> None:
        while True:
            kind, job_id = self._waiting.get()
            try:
                current_app.send_task(kind, args=[str(job_id)], retry=False)
            except (OperationalError, OSError):
                logger.warning("The broker is away; job %s and %s more wait for the sweeper.", job_id, self._drop())
            except Exception:  # the thread's edge: the next bell must ring
                logger.exception("The bell of job %s cannot be rung; it waits for the sweeper.", job_id)
            finally:
                self._waiting.task_done()

    def _drop(self) -> int:
        dropped = 0
        try:
            while True:
                self._waiting.get_nowait()
                self._waiting.task_done()
                dropped += 1
        except Empty:
            return dropped


_bell = Bell()


def ring(kind: str, job_id: UUID) -> None:
    """Send the bell of a job soon; does not wait for the broker."""
    _bell.ring(kind, job_id)


def waiting(queue: str) -> int:
    """Give how many messages lie in the broker's queue. Raises OperationalError or OSError when the broker is away."""
    with current_app.connection_or_acquire() as connection, connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except connection.channel_errors:  # nothing was ever sent to it, or Redis has let the empty list go
            return 0


def queue_of(kind: str) -> str:
    """Give the queue that the bells of a kind go to."""
    route = (current_app.conf.task_routes or {}).get(kind) or {}
    return str(route.get("queue", current_app.conf.task_default_queue))


def wait(seconds: float) -> bool:
    """Wait until every bell of this process was sent or dropped, at most so long; tells whether they were."""
    return _bell.wait(seconds)


os.register_at_fork(after_in_child=_bell.begin_anew)
atexit.register(lambda: wait(_LAST_S))
