"""The list of endpoints, and making one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import answer, done, page
from console.tiles import tile
from core.errors import Conflict, Invalid, SignalboxError
from monitoring import queries as monitored
from serving.create_endpoint import create_endpoint
from serving.models import Endpoint
from serving.queries import ENDPOINT_SORTS, endpoints_page


@require_safe
@page
def view(request: HttpRequest) -> HttpResponse:
    """Answer one page of the list; ``?q=`` searches the names."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW)
    q = request.GET.get("q", "").strip()[:100]
    sort = request.GET.get("sort") or ENDPOINT_SORTS.default
    rows = endpoints_page(sort=sort, cursor=request.GET.get("cursor"), search=q)
    verdicts = tile(lambda: monitored.endpoint_verdicts([row.name for row in rows.results]))
    context = {"title": "Endpoints", "rows": rows, "q": q, "sort": sort, "verdicts": verdicts, "may_create": actor.may(Right.ENDPOINT_CREATE)}
    return render(request, "endpoints/page.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def create(request: HttpRequest) -> HttpResponse:
    """Show the form, then make the endpoint with its two empty slots."""
    actor = request_actor(request)
    typed = {key: request.POST.get(key, "").strip() for key in ("name", "description", "sticky_on", "log_policy")}
    typed["log_policy"] = typed["log_policy"] or str(Endpoint.LogPolicy.FAST)
    wrong: SignalboxError | None = None
    if request.method == "POST":
        try:
            endpoint = create_endpoint(
                actor=actor, name=typed["name"], description=typed["description"], sticky_on=typed["sticky_on"], log_policy=typed["log_policy"]
            )
        except (Invalid, Conflict) as error:
            wrong = error
        else:
            return done(request, f"{endpoint.name} is there. Deploy a version to it.", "endpoint", endpoint.name)
    require(actor, Right.ENDPOINT_CREATE)
    context = {
        "title": "Create an endpoint",
        "crumbs": [("Endpoints", reverse("endpoints")), ("Create", "")],
        "typed": typed,
        "wrong": wrong.message if wrong else "",
        "at": wrong.detail.get("field", "name") if wrong else "",
        "policies": LOG_POLICIES,
    }
    return answer(request, "endpoints/_create.html", context, wrong.status if wrong else 200)


LOG_POLICIES = (
    (Endpoint.LogPolicy.FAST, "fast: logged within 50 ms after the answer"),
    (Endpoint.LogPolicy.DURABLE, "durable: answered only when the log is safe"),
    (Endpoint.LogPolicy.SAMPLED, "sampled: a share of the predictions"),
    (Endpoint.LogPolicy.OFF, "off: nothing is logged, nothing is monitored"),
)
