"""The ledger of an endpoint: every change of what answers, and what answered at a moment."""

from __future__ import annotations

from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import page
from console.changes import changes
from console.endpoint import shown
from serving.queries import endpoint_detail, ledger_page, state_at

_ROWS = 50


@require_safe
@page
def view(request: HttpRequest, name: str) -> HttpResponse:
    """Answer one page of the ledger; ``?at=2026-11-22T14:05`` (UTC) also tells what served then."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    detail = endpoint_detail(name)
    rows = ledger_page(endpoint=name, cursor=request.GET.get("cursor"), limit=_ROWS)
    text = request.GET.get("at", "").strip()
    at = _moment(text)
    context = shown(actor, detail, "ledger") | {
        "title": f"Ledger of {name}",
        "rows": rows,
        "lines": [(row, changes(row.before, row.after)) for row in rows.results],
        "asked": text,
        "at": at,
        "served": state_at(name, at) if at else None,
        "wrong": bool(text) and at is None,
    }
    return render(request, "endpoint/ledger.html", context)


def _moment(text: str) -> datetime | None:
    """Read a date and time; without a zone it is UTC. None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
