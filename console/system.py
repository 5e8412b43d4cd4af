"""The state of the machine room: the processes, the data plane's route tables, queues, jobs, sandbox, storage, versions."""

from __future__ import annotations

import platform
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import redis
from django.db import connection
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from redis.backoff import NoBackoff
from redis.retry import Retry

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import is_fragment, page
from core.clock import now
from core.environment import ROOT, environment
from core.models import Job
from core.processes import SUPERVISOR, Part, parts
from core.queries import job_counts, jobs_page
from registry.convert.confine import probe
from registry.models import Artifact, Build
from serving.queries import SystemState, system_state
from serving.queries.log import compacted, lost_everywhere
from serving.queries.system import MAY_DISAGREE

QUEUES = ("work", "sandbox")
PACKAGES = ("Django", "onnxruntime", "onnx", "celery", "psycopg", "numpy", "pyarrow")
_WHAT = {
    SUPERVISOR: "keeps the others alive",
    "postgres": "database",
    "redis": "queues",
    "dataplane": "answers predictions",
    "grpc": "answers predictions over gRPC",
    "workers": "checks, profiles, drift, alerts",
    "work": "checks, profiles, drift, alerts",
    "sandbox": "opens model files",
    "beat": "starts the periodic tasks",
    "console": "pages and REST API",
    "demo": "callers and outcomes",
}
_LOG_TABLES = ("serving_predictionsegment", "serving_trafficwindow", "monitoring_windowprofile")


@dataclass(frozen=True, slots=True)
class Tile:
    """A part that is asked by itself, so that it can fail by itself."""

    value: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part in plain words. ``log`` is where it writes what happens to it."""

    part: Part
    what: str
    log: str


@page
@require_safe
def system(request: HttpRequest) -> HttpResponse:
    """The page; to htmx only the part that moves."""
    require(request_actor(request), Right.SYSTEM_VIEW)
    state = system_state()
    context: dict[str, Any] = {"system": state, "lagging": _lagging(state), "queues": _ask(_queue_lengths, redis.RedisError)}
    rows = [_row(part) for part in parts(environment().run_dir)]
    context |= {"parts": rows, "bad": sum(row.part.is_bad for row in rows)}
    context |= {"jobs": job_counts(), "dead": jobs_page(state=Job.State.DEAD, limit=5).results, "lost": lost_everywhere(), "compacted": compacted()}
    if is_fragment(request):
        return render(request, "system/_live.html", context)
    return render(request, "system/system.html", context | {"storage": _storage(), "versions": _versions(), "sandbox": sandbox(), "environment": environment()})


def _row(part: Part) -> PartRow:
    log = "" if part.name == SUPERVISOR else f"var/log/{part.name}.log"
    return PartRow(part, _WHAT.get(part.name.partition("-")[0], ""), log)


def _lagging(state: SystemState) -> bool:
    """Tell whether a process that speaks still holds an older table two seconds after the newest was published."""
    settled = state.published_at is not None and now() - state.published_at > MAY_DISAGREE
    return settled and any(process.behind for process in state.processes if not process.stale)


@cache
def sandbox() -> dict[str, bool | int | str]:
    """Say how model files are confined on this machine; tried in child processes, once."""
    return probe()


def _ask(question: Callable[[], Any], *failures: type[Exception]) -> Tile:
    try:
        return Tile(question())
    except failures as error:
        return Tile(error=f"{type(error).__name__}: {error}")


def _queue_lengths() -> list[tuple[str, int]]:
    """Messages that wait in Redis, per queue. Half a second at most, since Redis may be away."""
    client = redis.Redis.from_url(environment().redis_url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0))
    try:
        with client.pipeline(transaction=False) as pipeline:
            for queue in QUEUES:
                pipeline.llen(queue)
            return list(zip(QUEUES, pipeline.execute(), strict=True))
    finally:
        client.close()


def _storage() -> dict[str, Any]:
    """Bytes of artifacts and logs, and what is left on the disk. Three queries."""
    disk = shutil.disk_usage(environment().var_dir)
    artifacts = Artifact.objects.aggregate(n=Count("id"), size=Sum("size_bytes"))
    builds = Build.objects.aggregate(n=Count("id"), size=Sum("size_bytes"))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_database_size(current_database()), (SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(%s::text[]) AS name)",
            [list(_LOG_TABLES)],
        )
        database, logs = cursor.fetchone()
    return {"disk": disk, "used_share": 1 - disk.free / disk.total, "artifacts": artifacts, "builds": builds, "database": database, "logs": logs}


def _versions() -> list[tuple[str, str]]:
    return [("Signalbox", _own_version()), ("Python", platform.python_version()), *((name, _installed(name)) for name in PACKAGES)]


def _own_version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a package"
