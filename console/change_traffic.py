"""The forms that change what an endpoint answers: split, promote, roll back, deploy, empty a slot, unload, load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from access.actors import Actor
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console import readiness
from console.answers import answer, done, is_fragment, page, with_toast
from console.changes import changes
from console.endpoint import shown, traffic_card
from console.tiles import tile
from core.errors import Conflict, Invalid, SignalboxError, Unprocessable
from core.paging import cursor_of
from registry.models import Version
from serving.deploy import deploy as deploy_version
from serving.empty_slot import empty_slot as take_out
from serving.load import load as put_into_service
from serving.models import Endpoint
from serving.promote import candidate
from serving.promote import promote as promote_slot
from serving.queries import EndpointDetail, endpoint_detail, ledger_page, roll_back_target
from serving.roll_back import roll_back as apply_earlier
from serving.split import split as set_split
from serving.traffic import PERCENT, RoutingState, with_weights
from serving.unload import unload as take_out_of_service

_MOST_VERSIONS = 200


@require_POST
@page
def split(request: HttpRequest, name: str) -> HttpResponse:
    """Set the shares. A bad split (422) and a stale form (409) show again what was typed, beside how it stands now."""
    actor = request_actor(request)
    typed = {key.removeprefix("weight_"): str(value).strip() for key, value in request.POST.items() if key.startswith("weight_")}
    try:
        set_split(actor=actor, endpoint=name, weights=_weights(typed), revision=_revision(request), reason=_reason(request))
    except (Conflict, Unprocessable) as error:
        return traffic_card(request, actor, endpoint_detail(name), error.status, typed=typed, errors=[error.message], reason=_reason(request))
    return _changed(request, actor, name, f"Split applied: {endpoint_detail(name).state.split_text()}.")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def promote(request: HttpRequest, name: str) -> HttpResponse:
    """Show what a promotion changes, then do it."""
    actor = _viewer(request, name)
    if request.method != "POST":
        return _promote_sheet(request, actor, name)
    slot = request.POST.get("slot") or None
    try:
        promote_slot(actor=actor, endpoint=name, slot=slot, revision=_revision(request), reason=_reason(request))
    except (Conflict, Unprocessable) as error:
        return _promote_sheet(request, actor, name, error)
    live = endpoint_detail(name).live
    return _changed(request, actor, name, f"{live.title if live else slot} is live with all traffic. What it replaced stays warm.")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def roll_back(request: HttpRequest, name: str) -> HttpResponse:
    """Show what rolling back restores, then do it. No check stands in the way, and no revision either."""
    actor = _viewer(request, name)
    to = _number(request.POST.get("to") or request.GET.get("to") or "", "to")
    if request.method != "POST":
        return _roll_back_sheet(request, actor, name, to)
    try:
        apply_earlier(actor=actor, endpoint=name, to_revision=to, reason=_reason(request))
    except Unprocessable as error:
        return _roll_back_sheet(request, actor, name, to, error)
    return _changed(request, actor, name, f"Rolled back: {endpoint_detail(name).state.split_text()}.")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def deploy(request: HttpRequest, name: str) -> HttpResponse:
    """Choose a version and a slot, then put it there."""
    actor = _viewer(request, name)
    if request.method != "POST":
        return _deploy_sheet(request, actor, name)
    model, _, number = request.POST.get("version", "").rpartition("/")
    try:
        if not model or not number.isdecimal():
            raise Unprocessable("Choose the version to deploy. Nothing was changed.")  # noqa: TRY301  # shown like the verb's own refusals
        deploy_version(
            actor=actor,
            endpoint=name,
            model=model,
            version=int(number),
            build_kind=request.POST.get("build_kind") or "onnx",
            slot=request.POST.get("slot") or None,
            revision=_revision(request),
            reason=_reason(request),
        )
    except (Conflict, Unprocessable, Invalid) as error:
        return _deploy_sheet(request, actor, name, error)
    return _changed(request, actor, name, f"{model} v{number} is deployed. It is loaded and warmed before any request meets it.")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def empty_slot(request: HttpRequest, name: str, slot: str) -> HttpResponse:
    """Ask, then take the build out of a slot."""
    actor = _viewer(request, name)
    detail = endpoint_detail(name)
    wrong: SignalboxError | None = None
    if request.method == "POST":
        try:
            take_out(actor=actor, endpoint=name, slot=slot, revision=_revision(request), reason=_reason(request))
        except (Conflict, Unprocessable) as error:
            wrong, detail = error, endpoint_detail(name)
        else:
            return _changed(request, actor, name, f"{slot} is empty.")
    held = detail.state.slot(slot)
    return _sheet(request, actor, detail, "endpoint/_empty_slot.html", wrong, title=f"Empty {slot}", held=held, slot=slot)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def unload(request: HttpRequest, name: str) -> HttpResponse:
    """Ask, then take the endpoint out of service."""
    return _load_or_unload(request, name, take_out_of_service, "endpoint/_unload.html", f"Unload {name}", f"{name} is out of service. Its callers get 503.")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def load(request: HttpRequest, name: str) -> HttpResponse:
    """Ask, then put the endpoint back into service."""
    text = f"{name} is back in service, as soon as its versions are warm."
    return _load_or_unload(request, name, put_into_service, "endpoint/_load.html", f"Load {name}", text)


def _load_or_unload(request: HttpRequest, name: str, verb: Callable[..., Endpoint], template: str, title: str, text: str) -> HttpResponse:
    actor = _viewer(request, name)
    wrong: SignalboxError | None = None
    if request.method == "POST":
        try:
            verb(actor=actor, endpoint=name, revision=_revision(request), reason=_reason(request))
        except Conflict as error:
            wrong = error
        else:
            return done(request, text, reverse("endpoint", args=[name]))
    return _sheet(request, actor, endpoint_detail(name), template, wrong, title=title)


def _promote_sheet(request: HttpRequest, actor: Actor, name: str, wrong: SignalboxError | None = None) -> HttpResponse:
    detail = endpoint_detail(name)
    asked = request.POST.get("slot") or request.GET.get("slot") or ""
    named = detail.state.slot(asked)
    chosen = named if named and named.build_id else None
    if chosen is None:
        try:
            chosen = candidate(detail.state)
        except Unprocessable as error:
            return _sheet(request, actor, detail, "endpoint/_nothing_to_do.html", wrong or error, title="Promote", heading="Nothing to promote")
    after = with_weights(detail.state, {chosen.name: PERCENT})
    found = tile(lambda: readiness.of(detail)).value
    open_checks = [row for row in found.rows if row.verdict != "pass"] if found and found.candidate.name == chosen.name else []
    more = {"chosen": chosen, "chosen_title": detail.state.title(chosen), "changes": changes(detail.state, after), "open_checks": open_checks}
    return _sheet(request, actor, detail, "endpoint/_promote.html", wrong, title=f"Promote {detail.state.title(chosen)}", **more)


def _roll_back_sheet(request: HttpRequest, actor: Actor, name: str, to: int | None, wrong: SignalboxError | None = None) -> HttpResponse:
    detail = endpoint_detail(name)
    past = roll_back_target(name) if to is None else _state_of_revision(name, to)
    if past is None:
        missing = (
            f"Revision {to} is not in the ledger of {name}."
            if to
            else "Before what answers now, no other version had all of the traffic. The ledger goes to any revision."
        )
        heading = "Nothing to roll back to"
        return _sheet(request, actor, detail, "endpoint/_nothing_to_do.html", wrong, title="Roll back", heading=heading, missing=missing)
    live = past.slot(past.live_slot)
    name_of_past = past.title(live) if live and past.is_steady else past.split_text()
    more = {"changes": changes(detail.state, past), "past": past, "to": to, "name_of_past": name_of_past}
    return _sheet(request, actor, detail, "endpoint/_roll_back.html", wrong, title=f"Roll back to {name_of_past}", **more)


def _deploy_sheet(request: HttpRequest, actor: Actor, name: str, wrong: SignalboxError | None = None) -> HttpResponse:
    detail = endpoint_detail(name)
    ready = Version.objects.filter(state=Version.State.READY, archived_at=None, model__archived_at=None, builds__isnull=False)
    rows = ready.select_related("model").distinct().order_by("-id")[:_MOST_VERSIONS]
    here = {slot.model for slot in detail.slots if slot.model}
    versions = [(f"{version.model.name}/{version.number}", str(version)) for version in sorted(rows, key=lambda version: version.model.name not in here)]
    asked = request.POST.get("version") or request.GET.get("version") or (versions[0][0] if versions else "")
    if asked and asked not in dict(versions):
        versions.insert(0, (asked, asked.replace("/", " v")))
    slots = [("", "the one without traffic")] + [(slot.name, f"{slot.name} ({slot.title or 'empty'})") for slot in detail.slots if not slot.weight]
    more = {"versions": versions, "asked": asked, "choices": slots, "wanted": request.POST.get("slot") or request.GET.get("slot", "")}
    return _sheet(request, actor, detail, "endpoint/_deploy.html", wrong, title="Deploy a version", **more)


def _sheet(request: HttpRequest, actor: Actor, detail: EndpointDetail, template: str, wrong: SignalboxError | None, *, title: str, **more: Any) -> HttpResponse:
    """Answer a dialog, with what went wrong and the reason that was typed."""
    crumbs = [("Endpoints", reverse("endpoints")), (detail.name, reverse("endpoint", args=[detail.name])), (title, "")]
    context = shown(actor, detail) | {"title": title, "crumbs": crumbs, "errors": [wrong.message] if wrong else [], "reason": _reason(request)} | more
    response = answer(request, template, context, wrong.status if wrong else 200)
    if wrong and is_fragment(request):
        response["HX-Retarget"], response["HX-Reswap"] = "#dialog", "innerHTML"
    return response


def _changed(request: HttpRequest, actor: Actor, name: str, text: str) -> HttpResponse:
    """After a change: the traffic card and a toast on the endpoint's page, else go to that page."""
    address = reverse("endpoint", args=[name])
    if not is_fragment(request) or urlsplit(request.headers.get("HX-Current-URL", "")).path != address:
        return done(request, text, address)
    return with_toast(traffic_card(request, actor, endpoint_detail(name)), text, "traffic-changed")


def _weights(typed: dict[str, str]) -> dict[str, int]:
    for slot, text in typed.items():
        if not text.isdecimal() or len(text) > 3:
            raise Unprocessable(f"{slot}: a whole number from 0 to 100, not {text[:20]!r}. Nothing was changed.", slot=slot)
    return {slot: int(text) for slot, text in typed.items()}


def _revision(request: HttpRequest) -> int:
    revision = _number(request.POST.get("revision", ""), "revision")
    if revision is None:
        raise Invalid("The form says not which revision of the endpoint it changes. Load the page again.", field="revision")
    return revision


def _number(text: str, field: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise Invalid(f"`{field}` is {text[:20]!r}; it is a whole number.", field=field)
    return int(text)


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").strip()[:500]


def _state_of_revision(name: str, revision: int) -> RoutingState | None:
    """The state after a revision of the ledger; the page that begins right after it holds it first."""
    rows = ledger_page(endpoint=name, limit=1, cursor=cursor_of(["-revision", revision + 1])).results
    return next((row.after for row in rows if row.revision == revision), None)


def _viewer(request: HttpRequest, name: str) -> Actor:
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    return actor
