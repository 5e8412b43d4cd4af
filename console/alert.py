"""The page of one alert: what crossed which limit, what changed just before, what to do; acknowledging, resolving, noting."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import done, page
from console.monitoring import marks_of
from core.errors import Forbidden, SignalboxError, Unprocessable
from monitoring.handle_alert import acknowledge, note, resolve
from monitoring.models import Alert
from monitoring.queries import alert_detail
from serving.models import Endpoint


@page
@require_http_methods(["GET", "HEAD", "POST"])
def alert(request: HttpRequest, number: int) -> HttpResponse:
    """The alert; a POST does what its button says."""
    if request.method != "POST":
        return _show(request, number)
    try:
        text = _do(request, number)
    except Forbidden:
        raise
    except SignalboxError as refusal:
        return _show(request, number, refusal)
    return done(request, text, "alert", number)


@page
@require_safe
def series(request: HttpRequest, number: int) -> HttpResponseBase:
    """Columns for the chart around the moment."""
    require(request_actor(request), Right.ENDPOINT_VIEW)
    chart = alert_detail(number).chart
    return JsonResponse({"t": [moment.timestamp() for moment in chart.t], "lines": chart.lines, "marks": marks_of(chart.marks), "step": 0})


def _do(request: HttpRequest, number: int) -> str:
    actor, data = request_actor(request), request.POST
    seen = int(data["revision"]) if data.get("revision", "").isdigit() else None
    match data.get("do"):
        case "acknowledge":
            acknowledge(actor=actor, number=number, revision=seen, text=data.get("text", ""))
            return f"You look after alert {number}."
        case "resolve":
            resolve(actor=actor, number=number, revision=seen, text=data.get("text", ""), false_alarm=data.get("false_alarm") == "on")
            return f"Alert {number} is resolved."
        case "note":
            note(actor=actor, number=number, text=data.get("text", ""))
            return "The note is kept."
    raise Unprocessable("The form does not say what to do. Load the page again. Nothing was changed.")


def _show(request: HttpRequest, number: int, refusal: SignalboxError | None = None) -> HttpResponse:
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW)
    detail = alert_detail(number)
    name = detail.alert.endpoint
    context = {"d": detail, "alert": detail.alert, "refusal": refusal, "may_handle": actor.may(Right.ALERT_HANDLE, f"endpoint:{name}")}
    context |= {"still_there": Endpoint.objects.filter(name=name).exists(), "open": detail.alert.state != Alert.State.RESOLVED}
    return render(request, "alert/alert.html", context, status=refusal.status if refusal else 200)
