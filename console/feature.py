"""The page of one feature of an endpoint: the reference against now, the trend, what is missing, muting it."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import done, page
from console.endpoint import shown
from console.monitoring import hours_of, marks_of, version_of
from core.errors import NotFound
from monitoring.queries import feature_detail
from monitoring.queries.results import marks_of as changes_since
from monitoring.queries.shapes import FeatureDetail
from monitoring.rules import change_rule, rule_of
from serving.queries import endpoint_detail

CHARTS = ("psi", "missing", "quantiles")


@page
@require_safe
def feature(request: HttpRequest, name: str, key: str) -> HttpResponse:
    """Everything known of one feature; ``?version=`` says of which version, else of the live one."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    context = shown(actor, endpoint_detail(name), "monitoring")
    hours = hours_of(request)
    detail = feature_detail(name, key, hours=hours, version=version_of(request))
    both = detail.histogram
    bars = list(zip(both.labels, both.reference, both.current, strict=True))
    context |= {"name": name, "f": detail, "hours": str(hours), "bars": bars, "reference": list(both.reference), "current": list(both.current)}
    context |= {"labels": list(both.labels), "may_edit": actor.may(Right.MONITORING_EDIT, f"endpoint:{name}")}
    return render(request, "feature/feature.html", context)


@page
@require_safe
def series(request: HttpRequest, name: str, key: str, chart: str) -> HttpResponseBase:
    """Columns for one of the feature's charts: ``psi``, ``missing`` or ``quantiles``."""
    require(request_actor(request), Right.ENDPOINT_VIEW, f"endpoint:{name}")
    if chart not in CHARTS:
        raise NotFound(f"There is no chart {chart[:20]!r}; there are {', '.join(CHARTS)}.")
    detail = feature_detail(name, key, hours=hours_of(request), version=version_of(request))
    trend = detail.trend
    marks = marks_of(changes_since(name, trend.t[0])) if trend.t else []
    return JsonResponse({"t": [moment.timestamp() for moment in trend.t], "lines": _lines(detail, chart), "marks": marks, "step": trend.step_s})


@page
@require_POST
def mute(request: HttpRequest, name: str, key: str) -> HttpResponse:
    """Mute the feature, or let it alarm again."""
    rule = rule_of(name)
    muted = {feature for feature in rule.muted_features if feature != key}
    wanted = request.POST.get("muted") == "yes"
    changes = {"muted_features": sorted(muted | {key} if wanted else muted)}
    change_rule(actor=request_actor(request), endpoint=name, changes=changes, revision=rule.revision, reason=request.POST.get("reason", ""))
    here = reverse("feature", args=[name, key]) + (f"?{request.GET.urlencode()}" if request.GET else "")
    return done(request, f"{key} is muted: shown, but never alarming." if wanted else f"{key} may alarm again.", here)


def _lines(detail: FeatureDetail, chart: str) -> dict[str, Sequence[float | None]]:
    trend = detail.trend
    if chart == "psi":
        return {"PSI": trend.psi, "red.limit": trend.limit}
    if chart == "missing":
        return {"missing": [None if share is None else share * 100 for share in trend.missing]}
    return dict(trend.quantiles)
