"""The page of one model: its versions side by side, where each serves, aliases, words; archiving and deleting it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from access.permissions import require
from access.queries import AuditFilter, audit_page
from access.requests import request_actor
from access.rights import Right
from console.answers import answer, done, page
from console.texts import lines_of, number_of, pairs_of
from core.errors import SignalboxError, Unprocessable
from registry.aliases import remove_alias, set_alias
from registry.archive import archive_model
from registry.delete import delete_model
from registry.edit import edit_model
from registry.errors import Changed
from registry.queries import VERSION_SORTS, ModelDetail, aliases_of, model_detail, versions_page
from serving.queries import endpoints_with_version

METRIC_COLUMNS = 5


@page
@require_safe
def model(request: HttpRequest, name: str) -> HttpResponse:
    """Versions, aliases and the last changes."""
    return _show(request, name)


@page
@require_POST
def aliases(request: HttpRequest, name: str) -> HttpResponse:
    """Set or remove an alias; ``seen`` is the version that the form showed it on."""
    actor = request_actor(request)
    data = request.POST
    alias, seen = data.get("alias", "").strip(), number_of(data.get("seen", ""))
    try:
        if data.get("do") == "remove":
            remove_alias(actor=actor, model=name, alias=alias, seen=seen)
            return done(request, f"The alias {alias} is removed.", "model", name)
        number = number_of(data.get("version", "")) or 0
        set_alias(actor=actor, model=name, alias=alias, version=number, seen=seen)
    except Unprocessable as refusal:
        return _show(request, name, refusal)
    return done(request, f"{alias} is on v{number} now.", "model", name)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, name: str) -> HttpResponse:
    """Description and tags, guarded by the revision that the form was made from."""
    actor = request_actor(request)
    require(actor, Right.MODEL_EDIT, f"model:{name}")
    if request.method != "POST":
        return _edit_form(request, name, _words_of(name))
    typed = {key: request.POST.get(key, "") for key in ("description", "tags", "revision")}
    try:
        edit_model(actor=actor, model=name, description=typed["description"], tags=pairs_of(typed["tags"], "Tags"), revision=number_of(typed["revision"]))
    except Changed as refusal:
        present = _words_of(name)
        return _edit_form(request, name, typed | {"revision": present["revision"]}, refusal, present)
    except SignalboxError as refusal:
        return _edit_form(request, name, typed, refusal)
    return done(request, f"{name} is described anew.", "model", name)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def archive(request: HttpRequest, name: str) -> HttpResponse:
    """Ask, then archive or restore."""
    actor = request_actor(request)
    require(actor, Right.MODEL_EDIT, f"model:{name}")
    archived = model_detail(name).archived_at is not None
    if request.method == "POST":
        archive_model(actor=actor, model=name, archived=not archived, reason=request.POST.get("reason", ""))
        return done(request, f"{name} is {'restored' if archived else 'archived'}.", "model", name)
    text = "It returns to the list and can get versions again." if archived else "It leaves the list and takes no new versions. What serves goes on serving."
    verb = "Restore" if archived else "Archive"
    return _confirm(request, name, {"heading": f"{verb} {name}?", "text": text, "button": f"{verb} {name}", "action": reverse("model-archive", args=[name])})


@page
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, name: str) -> HttpResponse:
    """Ask, then delete a model without versions."""
    actor = request_actor(request)
    require(actor, Right.MODEL_DELETE, f"model:{name}")
    if request.method == "POST":
        delete_model(actor=actor, model=name, reason=request.POST.get("reason", ""))
        return done(request, f"{name} is deleted.", "models")
    model_detail(name)
    text = "Only a model without versions can be deleted. It cannot be undone."
    context = {"heading": f"Delete {name}?", "text": text, "button": f"Delete {name}", "action": reverse("model-delete", args=[name]), "danger": True}
    return _confirm(request, name, context)


def _show(request: HttpRequest, name: str, refusal: SignalboxError | None = None) -> HttpResponse:
    actor = request_actor(request)
    require(actor, Right.MODEL_VIEW, f"model:{name}")
    detail = model_detail(name)
    wanted = {key: request.GET.get(key, "").strip() for key in ("q", "state")}
    archived = request.GET.get("archived") == "yes"
    sort = request.GET.get("sort") or VERSION_SORTS.default
    found = versions_page(name, q=wanted["q"], state=wanted["state"], archived=archived, sort=sort, cursor=request.GET.get("cursor"))
    serving = endpoints_with_version(name)
    metrics = _metric_names(found.results)
    context: dict[str, Any] = {"model": detail, "aliases": aliases_of(name), "metrics": metrics, "next": found.next, **wanted, "archived": archived}
    context |= {"sort": sort, "numbers": sorted((version.number for version in found.results), reverse=True)}
    context |= {"rows": [(version, [(key, version.metrics.get(key)) for key in metrics], serving.get(version.number, [])) for version in found.results]}
    context |= {"entries": audit_page(AuditFilter(subject_kind="model", subject_name=name), limit=6).results, "refusal": refusal}
    context |= {"may_edit": actor.may(Right.MODEL_EDIT, f"model:{name}"), "may_register": actor.may(Right.MODEL_REGISTER, f"model:{name}")}
    context |= {"command": f"signalbox register model.joblib --name {name} --sample X.csv", "totals": _totals(detail)}
    return render(request, "model/model.html", context, status=refusal.status if refusal else 200)


def _metric_names(versions: Any) -> list[str]:
    """Give the metrics that most versions on the page have, at most five."""
    counts: dict[str, int] = {}
    for version in versions:
        for name in version.metrics:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))[:METRIC_COLUMNS]


def _totals(detail: ModelDetail) -> str:
    parts = [f"{count} {state}" for state, count in detail.states.items() if count]
    return ", ".join(parts) or "no versions"


def _words_of(name: str) -> dict[str, Any]:
    detail = model_detail(name)
    return {"description": detail.description, "tags": lines_of(detail.tags), "revision": detail.revision}


def _edit_form(
    request: HttpRequest, name: str, typed: dict[str, Any], refusal: SignalboxError | None = None, present: dict[str, Any] | None = None
) -> HttpResponse:
    """Show the form with what was typed; ``present`` is what somebody else has written meanwhile."""
    context: dict[str, Any] = {
        "typed": typed,
        "refusal": refusal,
        "present": present,
        "action": reverse("model-edit", args=[name]),
        "back": reverse("model", args=[name]),
        "heading": f"Edit {name}",
    }
    context |= {"title": f"Edit {name}", "crumbs": [("Models", reverse("models")), (name, reverse("model", args=[name])), ("Edit", "")]}
    return answer(request, "model/edit.html", context, status=refusal.status if refusal else 200)


def _confirm(request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    context |= {"back": reverse("model", args=[name]), "title": context["heading"]}
    context |= {"crumbs": [("Models", reverse("models")), (name, reverse("model", args=[name])), (context["button"], "")]}
    return answer(request, "model/confirm.html", context)
