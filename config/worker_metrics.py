"""What each process of a worker begins with and counts: tasks by name and state. Traces of jobs are made by ``core.jobs``. Each can be asked, and beat too."""

from __future__ import annotations

import sys
import time
from typing import Any

from celery.signals import after_task_publish, beat_init, task_postrun, task_prerun, worker_process_init, worker_process_shutdown, worker_ready
from prometheus_client import Counter, Histogram

from core import tracing
from core.embedded import child
from core.environment import environment
from core.metrics.own import OWN
from core.metrics.siblings import Sibling

_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900)
_TASKS = Histogram("signalbox_task_duration_seconds", "Time of a task in a worker, by its state at the end.", ["task", "state"], registry=OWN, buckets=_BUCKETS)
_SENT = Counter("signalbox_messages_sent", "Messages that were sent to the broker.", ["task"], registry=OWN)
_begun: dict[str, float] = {}


@task_prerun.connect
def _note_begin(task_id: str = "", **_: Any) -> None:
    _begun[task_id] = time.perf_counter()


@task_postrun.connect
def _count_task(task_id: str = "", task: Any = None, state: str | None = None, **_: Any) -> None:
    begun = _begun.pop(task_id, None)
    if begun is not None:
        _TASKS.labels(task.name, (state or "unknown").lower()).observe(time.perf_counter() - begun)


@after_task_publish.connect
def _count_message(sender: str = "", **_: Any) -> None:
    _SENT.labels(str(sender)).inc()


@worker_process_init.connect
def _end_with_the_worker(**_: Any) -> None:
    """A job that is cut short is taken up again; a process that outlives its worker would hold its lease for nothing."""
    child.end_with_parent()


@worker_process_init.connect
@worker_ready.connect
def _answer_as_worker(**_: Any) -> None:
    """A worker is named by its queue, as ``config.up.part`` starts it."""
    arguments = sys.argv
    queue = arguments[arguments.index("-Q") + 1] if "-Q" in arguments[:-1] else "work"
    Sibling(environment().run_dir, queue, OWN.collect).start()


@worker_process_shutdown.connect
def _send_traces(**_: Any) -> None:
    tracing.flush()


@beat_init.connect
def _answer_as_beat(**_: Any) -> None:
    Sibling(environment().run_dir, "beat", OWN.collect).start()
