"""The list of models: what exists, where it serves, who owns it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import page
from registry.queries import MODEL_SORTS, models_page
from serving.models import Slot


@page
@require_safe
def models(request: HttpRequest) -> HttpResponse:
    """One page of models, filtered and sorted by the address."""
    actor = request_actor(request)
    require(actor, Right.MODEL_VIEW)
    q, tag, archived = request.GET.get("q", "").strip(), request.GET.get("tag", "").strip(), request.GET.get("archived") == "yes"
    sort = request.GET.get("sort") or MODEL_SORTS.default
    found = models_page(q=q, tag=tag, archived=archived, sort=sort, cursor=request.GET.get("cursor"))
    serving = _serving([row.name for row in found.results])
    rows = [(row, serving[row.name]) for row in found.results]
    context = {"rows": rows, "next": found.next, "q": q, "tag": tag, "archived": archived, "filtered": bool(q or tag), "sort": sort}
    return render(request, "models/models.html", context | {"may_register": actor.may(Right.MODEL_REGISTER)})


def _serving(names: Collection[str]) -> dict[str, list[Slot]]:
    """Give the slots with traffic that hold a version of each model. One query."""
    slots = Slot.objects.filter(build__version__model__name__in=names, weight__gt=0).select_related("endpoint", "build__version__model")
    found: dict[str, list[Slot]] = defaultdict(list)
    for slot in slots.order_by("endpoint__name", "name"):
        if slot.build is not None:
            found[slot.build.version.model.name].append(slot)
    return found
