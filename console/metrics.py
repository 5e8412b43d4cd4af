"""The page /metrics of the console: every process of this machine but the data plane's, and what the database knows of the whole installation."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.db import InterfaceError, OperationalError
from django.db.models import Count, F, OuterRef, Subquery
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client.core import GaugeMetricFamily, Metric

from access.api.problems import CONTENT_TYPE, answer_of
from access.keys import actor_of_key
from access.permissions import require
from access.requests import address_of
from access.rights import Right
from core.clock import now
from core.environment import environment
from core.errors import NotSignedIn, SignalboxError, Unavailable
from core.metrics.exposition import gauge, page, pieces
from core.metrics.openness import REFUSAL, needs_key
from core.metrics.siblings import ask
from core.models import Job
from core.queries import job_counts
from monitoring.models import Alert
from serving.models import Endpoint, PredictionSegment
from serving.queries import system_state

logger = logging.getLogger(__name__)
PROCESSES = ("console", "work", "sandbox", "beat", "up")
MOST_SEGMENTS = 10_000
"""More waiting segments than this are not counted one by one."""


@require_safe
def view(request: HttpRequest) -> HttpResponse:
    """The page; for callers of this machine, and for keys that may see the system."""
    try:
        _require_reader(request)
    except SignalboxError as error:
        return _refused(error)
    except (OperationalError, InterfaceError):
        return _refused(Unavailable("The database is away, so the key cannot be checked. Try again in a moment."))
    accept = request.headers.get("Accept", "")
    found = ask(environment().run_dir, PROCESSES, accept)
    content_type, body = page([*found, *pieces(_known_to_the_database(), accept, {})], accept)
    return HttpResponse(body, content_type=content_type)


def _require_reader(request: HttpRequest) -> None:
    if not needs_key(environment(), address_of(request), (name.lower() for name in request.headers)):
        return
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise NotSignedIn(REFUSAL)
    require(actor_of_key(text.strip(), address_of(request)), Right.SYSTEM_VIEW)


def _refused(error: SignalboxError) -> HttpResponse:
    answer = answer_of(error)
    headers = {name: value for name, value in answer.headers.items() if name != "Content-Type"}
    return JsonResponse(answer.data, status=error.status, content_type=CONTENT_TYPE, headers=headers)


def _known_to_the_database() -> list[Metric]:
    """Give what holds for the whole installation; without a database only that it is away."""
    is_up = gauge("signalbox_database_up", "1 if Postgres answers the console.", 1)
    try:
        return [is_up, *_jobs(), *_alerts(), *_segments(), *_data_planes()]
    except (OperationalError, InterfaceError) as error:
        logger.warning("The database is away: %s", error)
        return [gauge("signalbox_database_up", "1 if Postgres answers the console.", 0)]


def _jobs() -> Iterator[Metric]:
    jobs = GaugeMetricFamily("signalbox_jobs", "Jobs that are queued or running, and those that ended dead within a day.", labels=["kind", "state"])
    ages = GaugeMetricFamily("signalbox_oldest_queued_job_age_seconds", "How long the oldest queued job has waited.", labels=["kind"])
    moment = now()
    for counts in job_counts():
        for state, count in ((Job.State.QUEUED, counts.queued), (Job.State.RUNNING, counts.running), (Job.State.DEAD, counts.dead)):
            jobs.add_metric([counts.kind, state.value], count)
        oldest = counts.oldest_queued_at
        ages.add_metric([counts.kind], max(0.0, (moment - oldest).total_seconds()) if oldest else 0.0)
    overdue = Job.objects.filter(state=Job.State.RUNNING, lease_until_at__lt=moment).count()
    yield from (jobs, ages, gauge("signalbox_overdue_job_leases", "Running jobs whose worker has not renewed its lease in time.", overdue))


def _alerts() -> Iterator[Metric]:
    family = GaugeMetricFamily("signalbox_alerts", "Alerts that are not resolved.", labels=["state", "severity"])
    unresolved = Alert.objects.exclude(state=Alert.State.RESOLVED).values_list("state", "severity").annotate(count=Count("number"))
    found = {(state, severity): count for state, severity, count in unresolved}
    for state in (Alert.State.OPEN, Alert.State.ACKNOWLEDGED):
        for severity in Alert.Severity:
            family.add_metric([state.value, severity.value], found.get((state.value, severity.value), 0))
    yield family


def _segments() -> Iterator[Metric]:
    """Count by the index of what is not profiled; the oldest of each endpoint is one step into it."""
    waiting = PredictionSegment.objects.filter(profiled_at__isnull=True)
    text = f"Log segments that no worker has profiled yet; {MOST_SEGMENTS} stands for any more."
    yield gauge("signalbox_unprofiled_segments", text, waiting.order_by().values("id")[:MOST_SEGMENTS].count())
    oldest = Subquery(waiting.filter(endpoint=OuterRef("name")).order_by("id").values("written_at")[:1])
    family = GaugeMetricFamily("signalbox_oldest_unprofiled_segment_age_seconds", "How long the oldest of them has waited.", labels=["endpoint"])
    moment = now()
    for name, written_at in Endpoint.objects.annotate(oldest=oldest).values_list("name", F("oldest")).order_by("name"):
        family.add_metric([name], max(0.0, (moment - written_at).total_seconds()) if written_at else 0.0)
    yield family


def _data_planes() -> Iterator[Metric]:
    state = system_state()
    yield gauge("signalbox_published_table_revision", "The newest route table.", state.table_revision)
    family = GaugeMetricFamily("signalbox_dataplane_processes", "Data-plane processes of all machines by what they last told.", labels=["state"])
    counts = dict.fromkeys(("ready", "not_ready", "silent"), 0)
    for process in state.processes:
        counts["silent" if process.stale else "ready" if process.ready else "not_ready"] += 1
    for name, count in counts.items():
        family.add_metric([name], count)
    yield family
