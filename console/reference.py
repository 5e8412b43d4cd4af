"""What an endpoint's traffic is compared with: the training sample, or its own traffic of the last days."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import answer, done, page
from console.endpoint import shown
from core.errors import Forbidden, SignalboxError, Unprocessable
from monitoring.queries import reference_info
from monitoring.set_reference import LEAST_ROWS, MOST_DAYS, set_reference
from serving.queries import EndpointDetail, endpoint_detail

TRAINING, TRAFFIC = "training", "traffic"
SOURCES = ((TRAINING, "its training sample"), (TRAFFIC, "its own traffic of the last days"))
_DAYS = "7"


@page
@require_http_methods(["GET", "HEAD", "POST"])
def reference(request: HttpRequest, name: str) -> HttpResponse:
    """Ask which version and with what, saying how it is now; a POST sets it."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    detail = endpoint_detail(name)
    if request.method != "POST":
        return _show(request, detail)
    try:
        model, version = _version(request.POST.get("version", ""))
        days = _days(request) if request.POST.get("source") == TRAFFIC else None
        made = set_reference(actor=actor, endpoint=name, model=model, version=version, days=days, reason=request.POST.get("reason", ""))
    except Forbidden:
        raise
    except SignalboxError as refusal:
        return _show(request, detail, refusal)
    what = "rows of traffic" if days else "training rows"
    return done(request, f"{model} v{version} is compared with {made.rows:,} {what}; its windows are judged again.", "monitoring-endpoint", name)


def _show(request: HttpRequest, detail: EndpointDetail, refusal: SignalboxError | None = None) -> HttpResponse:
    name, typed, slots = detail.name, request.POST, [slot for slot in detail.slots if slot.filled]
    found = {(slot.model, slot.version): reference_info(name, slot.model, slot.version) for slot in slots}
    asked = request.GET.get("version") or (str(detail.live.version) if detail.live else "")
    chosen = next((f"{model}/{version}" for model, version in found if str(version) == asked), "")
    back = reverse("monitoring-endpoint", args=[name])
    actor = request_actor(request)
    context = shown(actor, detail, "monitoring") | {
        "title": f"Reference of {name}",
        "crumbs": [("Monitoring", reverse("monitoring")), (name, back), ("Reference", "")],
        "action": reverse("monitoring-reference", args=[name]),
        "back": back,
        "name": name,
        "now": [(f"{model} v{version}", info.text if info else "nothing: it came without a sample") for (model, version), info in found.items()],
        "versions": [(f"{model}/{version}", f"{model} v{version}") for model, version in found],
        "version": typed.get("version", chosen),
        "sources": SOURCES,
        "source": typed.get("source", TRAFFIC),
        "days": typed.get("days", _DAYS),
        "reason": typed.get("reason", ""),
        "most_days": MOST_DAYS,
        "least_rows": LEAST_ROWS,
        "refusal": refusal,
        "wrong_days": refusal.message if refusal and refusal.detail.get("field") == "days" else "",
        "may_edit": actor.may(Right.MONITORING_EDIT, f"endpoint:{name}"),
    }
    return answer(request, "monitoring/reference.html", context, refusal.status if refusal else 200)


def _version(text: str) -> tuple[str, int]:
    model, _, number = text.rpartition("/")
    if not model or not number.isdecimal() or len(number) > 9:
        raise Unprocessable("Choose the version that is compared. Nothing was changed.", field="version")
    return model, int(number)


def _days(request: HttpRequest) -> int:
    text = request.POST.get("days", "").strip()
    if not text.isdecimal() or len(text) > 4:
        raise Unprocessable(f"Days: a whole number from 1 to {MOST_DAYS}, not {text[:20]!r}. Nothing was changed.", field="days")
    return int(text)
