"""Is anything wrong? Open alerts, every endpoint with its traffic, jobs and processes; each tile fails alone."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import page
from console.tiles import Tile, tile
from core.clock import now
from core.models import Job
from monitoring import queries as monitored
from serving.queries import EndpointRow, endpoints_page, system_state

_ENDPOINTS = 12
_ALERTS = 5
_JOBS = 6
_CHARTS = 2


@require_safe
@page
def view(request: HttpRequest) -> HttpResponse:
    """Answer the whole page."""
    require(request_actor(request), Right.ENDPOINT_VIEW)
    return render(request, "overview/page.html", {"title": "Overview"} | _board())


@require_safe
@page
def board(request: HttpRequest) -> HttpResponse:
    """Answer the tiles: asked for with every beat. The page is shown anew when it would have more ``?charts=`` by now."""
    require(request_actor(request), Right.ENDPOINT_VIEW)
    context = _board()
    response = render(request, "overview/_board.html", context)
    drawn = request.GET.get("charts", "")
    if drawn.isdecimal() and len(context["busiest"]) > int(drawn[:3]):
        response["HX-Refresh"] = "true"
    return response


def _board() -> dict[str, Any]:
    rows = tile(lambda: endpoints_page(limit=_ENDPOINTS))
    found = list(rows.value.results) if rows.value else []
    busiest = sorted(found, key=lambda row: row.now.rps, reverse=True)[:_CHARTS]
    return {
        "endpoints": rows,
        "more": bool(rows.value and rows.value.next),
        "verdicts": _verdicts(found),
        "alerts": tile(lambda: monitored.alerts_page(limit=_ALERTS, state="open")),
        "jobs": tile(lambda: list(Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING]).order_by("-created_at")[:_JOBS])),
        "system": tile(system_state),
        "busiest": [row for row in busiest if row.state.answering],
        "rollouts": [row for row in found if row.state.answering and not row.state.is_steady],
        "demo_is_coming": settings.ENVIRONMENT.demo_is_coming,
        "read_at": now(),
    }


def _verdicts(rows: list[EndpointRow]) -> Tile[dict[str, Any]]:
    return tile(lambda: monitored.endpoint_verdicts([row.name for row in rows]))
