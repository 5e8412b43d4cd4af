"""Seals what was logged under the name of a deleted endpoint: it stays readable under another name, and the name is free again.

A job does it, in small steps; until it is done nobody can take the name, so whatever bears it then belongs to the
deleted endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db import connection, models, transaction

from core import jobs
from core.errors import Conflict
from core.models import Job
from serving.models import Endpoint, LostPredictions, PredictionSegment, TrafficWindow, ValidationCount
from serving.sealed_names import sealed_name

KIND = "serving.tasks.seal"
STRAY = "stray"
_BATCH = 1000

sealed: list[type[models.Model]] = [PredictionSegment, TrafficWindow, LostPredictions, ValidationCount]
"""The tables with a column ``endpoint`` that tell what happened there."""
on_deleted: list[Callable[[str], None]] = []
"""Called in the transaction that deletes an endpoint: what was set for it ends."""


def seal_later(endpoint: Endpoint, at: datetime) -> None:
    """In the transaction that deletes it: end what was set for the endpoint, and let a job seal what was logged."""
    for end in on_deleted:
        end(endpoint.name)
    jobs.enqueue(kind=KIND, subject=endpoint.name, payload={"sealed": sealed_name(endpoint.name, f"{at:%Y%m%dT%H%M%SZ}")})


def seal(job: Job) -> None:
    """Give every row of the deleted endpoint its sealed name, step by step. Running again goes on."""
    for table in sealed:
        rows = table._default_manager.filter(endpoint=job.subject)  # noqa: SLF001  # documented as the manager of any model
        while some := list(rows.values_list("pk", flat=True)[:_BATCH]):
            with transaction.atomic():
                jobs.hold(job)
                table._default_manager.filter(pk__in=some).update(endpoint=job.payload["sealed"])  # noqa: SLF001  # as above


def refuse_unsealed(name: str) -> None:
    """Raise Conflict while the log of a deleted endpoint still has the name. Ask after the name is taken, in the same transaction."""
    last = Job.objects.filter(kind=KIND, subject=name).order_by("-created_at").first()
    if last is not None and last.state != Job.State.DONE:
        how = "has failed; the system page says why" if last.state == Job.State.DEAD else "is under way; try again in a moment"
        raise Conflict(f"An endpoint {name} was deleted, and sealing its log {how}. Nothing was created.", field="name")


def seal_strays() -> int:
    """Seal segments that came late, from a spool or a last flush: of before their endpoint was made; gives how many. Such counts are deleted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM serving_trafficwindow AS t USING serving_endpoint AS e"
            " WHERE t.endpoint = e.name AND t.start_at < e.created_at - make_interval(secs => t.level)"
        )
        cursor.execute(
            "DELETE FROM serving_validationcount AS v USING serving_endpoint AS e WHERE v.endpoint = e.name AND v.start_at < e.created_at - interval '1 hour'"
        )
        cursor.execute(
            "UPDATE serving_predictionsegment AS s SET endpoint = left(e.name, %s) || %s FROM serving_endpoint AS e"
            " WHERE s.endpoint = e.name AND s.last_at < e.created_at",
            [99 - len(STRAY), f"~{STRAY}"],
        )
        return int(cursor.rowcount)
