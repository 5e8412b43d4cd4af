"""The list of alerts, by state and endpoint, sorted by the address."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import page
from monitoring.queries import ALERT_SORTS, alerts_page

STATES = ("unresolved", "open", "acknowledged", "resolved", "all")


@page
@require_safe
def alerts(request: HttpRequest) -> HttpResponse:
    """One page; those that nobody resolved unless the address says otherwise."""
    require(request_actor(request), Right.ENDPOINT_VIEW)
    wanted = request.GET.get("state", "unresolved")
    state = wanted if wanted in STATES else "unresolved"
    endpoint = request.GET.get("endpoint", "").strip()
    sort = request.GET.get("sort") or ALERT_SORTS.default
    found = alerts_page(state="" if state == "all" else state, endpoint=endpoint, sort=sort, cursor=request.GET.get("cursor"))
    unresolved = found.counts["open"] + found.counts["acknowledged"]
    counts = {"unresolved": unresolved, **found.counts, "all": unresolved + found.counts["resolved"]}
    options = ",".join(f"{name}:{name.capitalize()} {counts[name]}" for name in STATES)
    return render(request, "alerts/alerts.html", {"found": found, "state": state, "endpoint": endpoint, "sort": sort, "options": options})
