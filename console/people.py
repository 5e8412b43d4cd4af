"""People: the list, making somebody (with a one-time link, shown once), roles, grants, locking out."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access.actors import Actor
from access.models import Grant, Role
from access.people import activate, add_grant, change_role, create_person, deactivate, remove_grant
from access.permissions import require
from access.queries import PEOPLE_SORTS, AuditFilter, audit_page, people_page, person_named
from access.requests import request_actor
from access.rights import Right
from access.sign_in import invite
from console.answers import done, page
from core.errors import SignalboxError, Unprocessable

ROLE_TEXTS = {
    Role.VIEWER: "Sees everything but artifacts",
    Role.SCIENTIST: "Also registers, describes and downloads models, and sends predictions and outcomes",
    Role.OPERATOR: "Also deploys, splits, promotes, rolls back and handles alerts",
    Role.ADMIN: "Also people and API keys",
}


@page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def people(request: HttpRequest) -> HttpResponse:
    """The list with the form; a POST makes somebody and answers with their link, this once."""
    actor = request_actor(request)
    require(actor, Right.PEOPLE_MANAGE)
    if request.method != "POST":
        return _list(request, {"typed": {"role": Role.VIEWER}})
    typed = {name: request.POST.get(name, "").strip() for name in ("username", "email", "role")}
    try:
        person = create_person(actor=actor, username=typed["username"], email=typed["email"], role=typed["role"])
        link = _link(request, invite(actor=actor, username=person.username))
    except SignalboxError as refusal:
        return _list(request, {"typed": typed, "refusal": refusal, "open": True}, refusal.status)
    return _list(request, {"typed": {"role": Role.VIEWER}, "link": link, "invited": person}, 201)


@page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def person(request: HttpRequest, username: str) -> HttpResponse:
    """One person; a POST does what its button says."""
    actor = request_actor(request)
    require(actor, Right.PEOPLE_MANAGE)
    if request.method != "POST":
        return _detail(request, username)
    try:
        if request.POST.get("do") == "link":
            return _detail(request, username, {"link": _link(request, invite(actor=actor, username=username))}, 201)
        text = _verb(request.POST.get("do", ""))(actor, username, request.POST)
    except SignalboxError as refusal:
        return _detail(request, username, {"refusal": refusal}, refusal.status)
    return done(request, text, "person", username)


def _verb(name: str) -> Callable[[Actor, str, QueryDict], str]:
    verbs = {"role": _role, "grant": _grant, "ungrant": _ungrant, "deactivate": _deactivate, "activate": _activate}
    if name not in verbs:
        raise Unprocessable("The form does not say what to do. Load the page again. Nothing was changed.")
    return verbs[name]


def _role(actor: Actor, username: str, data: QueryDict) -> str:
    changed = change_role(actor=actor, username=username, role=data.get("role", ""), reason=data.get("reason", ""))
    return f"{username} is {changed.role} now."


def _grant(actor: Actor, username: str, data: QueryDict) -> str:
    name = data.get("subject_name", "").strip()
    if not name:
        raise Unprocessable("Name the model or endpoint that the grant is for. Nothing was changed.")
    grant = add_grant(actor=actor, username=username, subject_kind=data.get("subject_kind", ""), subject_name=name, role=data.get("role", ""))
    return f"{username} is {grant.role} of {grant.subject_kind} {grant.subject_name} now."


def _ungrant(actor: Actor, username: str, data: QueryDict) -> str:
    kind, name = data.get("subject_kind", ""), data.get("subject_name", "")
    remove_grant(actor=actor, username=username, subject_kind=kind, subject_name=name)
    return f"{username} has no grant on {kind} {name} any more."


def _deactivate(actor: Actor, username: str, data: QueryDict) -> str:
    deactivate(actor=actor, username=username, reason=data.get("reason", ""))
    return f"{username} is locked out, and their keys are revoked."


def _activate(actor: Actor, username: str, data: QueryDict) -> str:
    activate(actor=actor, username=username, reason=data.get("reason", ""))
    return f"{username} may sign in again."


def _list(request: HttpRequest, context: dict[str, object], status: int = 200) -> HttpResponse:
    q = request.GET.get("q", "").strip()
    sort = request.GET.get("sort") or PEOPLE_SORTS.default
    found = people_page(q=q, sort=sort, cursor=request.GET.get("cursor"))
    shown = {"rows": found.results, "next": found.next, "q": q, "sort": sort, "roles": _roles()}
    return render(request, "people/people.html", shown | context, status=status)


def _detail(request: HttpRequest, username: str, context: dict[str, object] | None = None, status: int = 200) -> HttpResponse:
    entries = audit_page(AuditFilter(subject_kind="person", subject_name=username), limit=10).results
    facts = {"person": person_named(username), "roles": _roles(), "kinds": Grant.SubjectKind.values, "entries": entries}
    return render(request, "people/person.html", facts | (context or {}), status=status)


def _roles() -> list[tuple[str, str]]:
    return [(role.value, text) for role, text in ROLE_TEXTS.items()]


def _link(request: HttpRequest, token: str) -> str:
    return request.build_absolute_uri(reverse("sign-in-link", args=[token]))
