"""Search over models, versions, endpoints and pages: the dialog behind Ctrl-K, and a plain page without script."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.actors import Actor
from access.requests import request_actor
from access.rights import Right
from console.answers import is_fragment, page
from console.shell import SECTIONS
from console.templatetags.formats import counted
from registry.models import Model, Version
from serving.models import Endpoint

_MOST = 8
_NUMBER = re.compile(r"^(?P<name>.*?)[\s/]*v?(?P<number>\d{1,9})$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hit:
    """One line of the answer."""

    title: str
    address: str
    icon: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The hits of one sort."""

    title: str
    hits: list[Hit] = field(default_factory=list)


@require_safe
@page
def view(request: HttpRequest) -> HttpResponse:
    """Answer ``?q=``: the hits alone to htmx, else the page."""
    text = request.GET.get("q", "").strip()[:100]
    groups = find(request_actor(request), text)
    context = {"q": text, "groups": groups, "title": "Search"}
    return render(request, "search/_hits.html" if is_fragment(request) else "search/page.html", context)


def find(actor: Actor, text: str) -> list[Group]:
    """Find what ``text`` names. Three queries; none for an empty text, which finds the pages and the actions."""
    groups = [Group("Pages and actions", _actions(text))]
    if text and actor.may(Right.ENDPOINT_VIEW):
        groups.insert(0, Group("Endpoints", _endpoints(text)))
    if text and actor.may(Right.MODEL_VIEW):
        groups[0:0] = [Group("Models", _models(text)), Group("Versions", _versions(text))]
    return [group for group in groups if group.hits]


def _models(text: str) -> list[Hit]:
    found = Model.objects.filter(Q(name__icontains=text) | Q(description__icontains=text)).order_by("name")[:_MOST]
    return [Hit(model.name, f"/models/{model.name}/", "boxes", counted(model.latest_number, "versions")) for model in found]


def _versions(text: str) -> list[Hit]:
    named = _NUMBER.match(text)
    if named is None:
        return []
    wanted = Version.objects.filter(number=int(named["number"]) % 2**31, model__name__icontains=named["name"].strip()).select_related("model")
    found = wanted.order_by("model__name")[:_MOST]
    return [Hit(str(version), f"/models/{version.model.name}/{version.number}/", "package", version.state) for version in found]


def _endpoints(text: str) -> list[Hit]:
    found = Endpoint.objects.filter(Q(name__icontains=text) | Q(description__icontains=text)).order_by("name")[:_MOST]
    return [Hit(endpoint.name, f"/endpoints/{endpoint.name}/", "waypoints", "endpoint") for endpoint in found]


def _actions(text: str) -> list[Hit]:
    actions = [Hit(section.title, section.path, section.icon, "page") for section in SECTIONS]
    actions += [Hit("Register a version", "/models/register/", "upload", "action"), Hit("Create an endpoint", "/endpoints/new/", "plus", "action")]
    return [hit for hit in actions if text.lower() in hit.title.lower()]
