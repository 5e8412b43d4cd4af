"""The page of one endpoint, and the parts of it that live updates fetch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.actors import Actor
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console import figures, readiness
from console.answers import answer, page
from console.tiles import tile
from core.errors import Invalid
from monitoring import queries as monitored
from serving.queries import EndpointDetail, TrafficSummary, endpoint_detail, ledger_page, traffic_series, traffic_summary
from serving.queries.traffic import WINDOWS

PRESETS = (1, 5, 10, 25, 50, 100)
HOURS = 24
_ACTIVITY = 6
_WINDOW_WORDS = {"15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h"}
_RECENT_COLUMNS = 8


@require_safe
@page
def view(request: HttpRequest, name: str) -> HttpResponse:
    """Answer the whole page. Twenty queries at most, whatever the number of slots."""
    actor = _viewer(request, name)
    detail = endpoint_detail(name)
    known = _known(detail)
    context = shown(actor, detail) | traffic_context(detail, _summary(detail)) | _side(detail, known)
    context |= {
        "windows": [(window, _WINDOW_WORDS[window]) for window in WINDOWS],
        "window": _window(request),
        "drift": tile(lambda: monitored.drift_overview(name, hours=HOURS, known=known, fine_when_young=True)),
        "recent": _RECENT_COLUMNS,
    }
    return render(request, "endpoint/page.html", context)


@require_safe
@page
def pulse(request: HttpRequest, name: str) -> HttpResponse:
    """Answer the numbers that move: asked for every five seconds, morphed into place. Four queries."""
    actor = _viewer(request, name)
    detail = endpoint_detail(name)
    return render(request, "endpoint/_pulse.html", shown(actor, detail) | traffic_context(detail, _summary(detail)) | {"live_update": True})


@require_safe
@page
def traffic(request: HttpRequest, name: str) -> HttpResponse:
    """Answer the card of slots and split as it stands now."""
    actor = _viewer(request, name)
    return traffic_card(request, actor, endpoint_detail(name))


@require_safe
@page
def side(request: HttpRequest, name: str) -> HttpResponse:
    """Answer the checks and the activity."""
    actor = _viewer(request, name)
    detail = endpoint_detail(name)
    return answer(request, "endpoint/_side.html", shown(actor, detail) | _side(detail, _known(detail)))


@require_safe
@page
def series(request: HttpRequest, name: str) -> JsonResponse:
    """Answer columns for the charts; ``?since=`` (seconds since 1970) gives only later ones."""
    _viewer(request, name)
    since = request.GET.get("since", "")
    try:
        after = float(since) if since else None
    except ValueError as error:
        raise Invalid(f"`since` is {since!r}; it is a number of seconds since 1970.", field="since") from error
    return JsonResponse(asdict(traffic_series(name, request.GET.get("window", "15m"), after)))


def shown(actor: Actor, detail: EndpointDetail, tab: str = "overview") -> dict[str, Any]:
    """Give what the head of every page of an endpoint needs: its tabs, and which rights the person lacks."""
    wanted = {"split": Right.ENDPOINT_SPLIT, "edit": Right.ENDPOINT_EDIT, "predict": Right.PREDICT, "deploy": Right.ENDPOINT_DEPLOY}
    lacks = {key: str(right) for key, right in wanted.items() if not actor.may(right, f"endpoint:{detail.name}")}
    return {"endpoint": detail, "title": detail.name, "tab": tab, "lacks": lacks}


def traffic_card(request: HttpRequest, actor: Actor, detail: EndpointDetail, status: int = 200, **more: Any) -> HttpResponse:
    """Answer the traffic card; ``typed`` (slot to text), ``reason`` and ``errors`` show again what was sent and what is wrong with it."""
    context = shown(actor, detail) | traffic_context(detail, _summary(detail), more.pop("typed", None)) | more
    return answer(request, "endpoint/_traffic.html", context, status)


def traffic_context(detail: EndpointDetail, summary: TrafficSummary | None, typed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Give slots with their numbers, the tiles and the steps of the presets."""
    slots: list[dict[str, Any]] = [
        {
            "slot": slot,
            "numbers": summary.slots.get(slot.name) if summary else None,
            "actual": summary.share_of(slot.name) if summary else None,
            "typed": typed.get(slot.name, "") if typed else slot.weight,
        }
        for slot in detail.slots
    ]
    candidate = detail.candidate
    share = candidate.weight if candidate else 0
    steps = [{"at": at, "state": "done" if at < share else "now" if at == share else ""} for at in PRESETS]
    filled = [slot for slot in slots if slot["slot"].filled]
    return {"slots": slots, "filled": filled, "figures": figures.figures(summary, cached=detail.cache.get("ttl_s", 0) > 0) if summary else [], "steps": steps}


def _summary(detail: EndpointDetail) -> TrafficSummary | None:
    return tile(lambda: traffic_summary(detail.name)).value


def _known(detail: EndpointDetail) -> monitored.Known | None:
    """Read once what the tiles of monitoring share; where that fails, each tile fails alone."""
    return tile(lambda: monitored.known_of(detail.name)).value


def _side(detail: EndpointDetail, known: monitored.Known | None) -> dict[str, Any]:
    entries = tile(lambda: ledger_page(endpoint=detail.name, limit=_ACTIVITY))
    return {"readiness": tile(lambda: readiness.of(detail, known)), "activity": entries}


def _viewer(request: HttpRequest, name: str) -> Actor:
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    return actor


def _window(request: HttpRequest) -> str:
    window = request.GET.get("window", "15m")
    return window if window in WINDOWS else "15m"
