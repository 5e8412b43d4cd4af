"""The Celery application: its queues, its limits and the periodic tasks.

A message carries only an id and is only a bell: the row in Postgres is the job (``core.jobs``).
"""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import celeryd_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from config import worker_metrics  # noqa: F401  # it listens to Celery's signals
from core.environment import environment


def broker_url(redis_url: str) -> str:
    """Celery calls a Unix socket ``redis+socket``; everyone else calls it ``unix``."""
    return redis_url.replace("unix://", "redis+socket://", 1)


VISIBILITY_TIMEOUT_S = 3600
_SOCKET = {"socket_timeout": 5, "socket_connect_timeout": 2, "visibility_timeout": VISIBILITY_TIMEOUT_S}

app = Celery("signalbox", broker=broker_url(environment().redis_url))
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_transport_options=_SOCKET,
    task_acks_late=True,
    task_default_queue="work",
    task_ignore_result=True,
    task_publish_retry=False,
    task_reject_on_worker_lost=True,
    task_routes={"registry.tasks.check_version": {"queue": "sandbox"}, "registry.tasks.compare_answers": {"queue": "sandbox"}},
    task_soft_time_limit=900,
    task_time_limit=960,
    timezone="UTC",
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_soft_shutdown_timeout=5,
)


@celeryd_init.connect
def _find_tasks(**_: object) -> None:
    """Workers import the tasks; beat and who sends know them by name."""
    app.autodiscover_tasks(["core", "registry", "serving", "monitoring"], force=True)


def _every(period_s: float, task: str) -> dict[str, object]:
    """A turn that waited for a worker for longer than this is dropped: the next one does the same."""
    return {"task": task, "schedule": period_s, "options": {"expires": max(60.0, 2 * period_s)}}


app.conf.beat_scheduler = "config.beat:Scheduler"
app.conf.beat_schedule = {
    "sweep-jobs": _every(5.0, "core.tasks.sweep"),
    "collect-leftovers": _every(300.0, "registry.tasks.collect_leftovers"),
    "roll-up-traffic": _every(60.0, "serving.tasks.roll_up_traffic"),
    "roll-up-key-usage": _every(86_400.0, "serving.tasks.roll_up_usage"),
    "delete-old-predictions": _every(3600.0, "serving.tasks.delete_old"),
    "compact-log": _every(60.0, "serving.tasks.compact_log"),
    "profile": _every(15.0, "monitoring.tasks.profile"),
    "watch-builds": _every(10.0, "monitoring.tasks.watch_builds"),
    "delete-old-windows": _every(3600.0, "monitoring.tasks.delete_old"),
}
