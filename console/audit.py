"""The audit log: who changed what, from what to what, why and from where; as a page and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.queries import AuditFilter, audit_page
from access.requests import request_actor
from access.rights import Right
from console.answers import page

COLUMNS = ("at", "actor_kind", "actor_name", "verb", "subject_kind", "subject_name", "before", "after", "reason", "address")
KINDS = ("model", "version", "endpoint", "alert", "rule", "key", "person")
AT_ONCE = 1000


@page
@require_safe
def audit(request: HttpRequest) -> HttpResponse:
    """One page of entries, newest first, filtered by the address."""
    require(request_actor(request), Right.AUDIT_VIEW)
    wanted = _wanted(request)
    found = audit_page(wanted, cursor=request.GET.get("cursor"))
    rows = [{"entry": entry, "changes": changes(entry.before, entry.after)} for entry in found.results]
    return render(request, "audit/audit.html", {"rows": rows, "next": found.next, "wanted": wanted, "filtered": wanted != AuditFilter(), "kinds": KINDS})


@page
@require_safe
def export(request: HttpRequest) -> HttpResponseBase:
    """Everything that the filters leave, as CSV, sent while it is read."""
    require(request_actor(request), Right.AUDIT_VIEW)
    response = StreamingHttpResponse(_csv_lines(_wanted(request)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="signalbox-audit.csv"'
    return response


def changes(before: Any, after: Any) -> list[tuple[str, str, str]]:
    """List what differs as (name, from, to); a value that is no object has the empty name."""
    if not isinstance(before, dict | None) or not isinstance(after, dict | None):
        return [("", _text(before), _text(after))]
    old, new = _by_slot(before or {}), _by_slot(after or {})
    return [(name, _text(old.get(name)), _text(new.get(name))) for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]


def _by_slot(state: dict[str, Any]) -> dict[str, Any]:
    """Write a routing state as one value per slot, in words; everything else stays as it is."""
    slots = state.get("slots")
    if not isinstance(slots, list):
        return state
    words = {f"slot {slot['name']}": f"{slot['model']} v{slot['version']}, {slot['weight']} %" if slot.get("version") else "empty" for slot in slots}
    return {key: value for key, value in state.items() if key != "slots"} | words


def _wanted(request: HttpRequest) -> AuditFilter:
    q, actor, verb, kind, subject = (request.GET.get(name, "").strip() for name in ("q", "actor", "verb", "kind", "subject"))
    return AuditFilter(q=q, actor=actor, verb=verb, subject_kind=kind, subject_name=subject)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


class _Echo:
    """A file for the csv module that gives back each line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def _csv_lines(wanted: AuditFilter) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    cursor: str | None = None
    while True:
        found = audit_page(wanted, cursor=cursor, limit=AT_ONCE)
        for entry in found.results:
            yield writer.writerow([_cell(getattr(entry, column)) for column in COLUMNS])
        cursor = found.next
        if cursor is None:
            return


def _cell(value: Any) -> str:
    """Text for one cell; a leading apostrophe keeps a spreadsheet from reading it as a formula."""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text
