"""API keys: the list with what each has used, creating one (its text is shown once), limiting one, revoking one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access.keys import create_key, limit_key, revoke_key
from access.models import ApiKey, Scope
from access.permissions import require
from access.queries import KEY_SORTS, key_with_id, keys_page, state_of
from access.requests import request_actor
from access.rights import Right
from console.answers import answer, done, page
from console.key_limits import LIMITS, Limit, read_limits, shares_of, short_of
from core.errors import Invalid, Unprocessable
from serving.models import Endpoint
from serving.queries import usage_of, usage_of_each

DAYS_SHOWN = 7
SCOPE_TEXTS = {
    Scope.PREDICT: "Send predictions",
    Scope.READ: "Read models, endpoints, predictions and the audit log",
    Scope.OUTCOMES: "Send outcomes",
    Scope.REGISTER: "Register and describe versions",
    Scope.OPERATE: "Deploy, split, promote, roll back",
    Scope.ADMIN: "Everything, people and keys too",
}


@page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """The list with the form; a POST creates a key and answers with its text, this once."""
    actor = request_actor(request)
    require(actor, Right.KEY_MANAGE)
    if request.method != "POST":
        return _show(request, {"typed": {"scopes": [Scope.PREDICT], "endpoints": []}})
    typed = _typed(request)
    try:
        issued = create_key(
            actor=actor,
            name=typed["name"],
            scopes=typed["scopes"],
            endpoints=typed["endpoints"],
            expires_at=_expiry(typed["expires"]),
            limits=read_limits(typed["limits"]),
        )
    except Invalid as refusal:
        return _show(request, {"typed": typed, "refusal": refusal, "open": True}, refusal.status)
    return _show(request, {"typed": {}, "issued": issued, "curl": _curl(issued.text, issued.key)}, 201)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def key_revoke(request: HttpRequest, key_id: str) -> HttpResponse:
    """Ask, and on POST revoke: data planes refuse the key within a second."""
    actor = request_actor(request)
    require(actor, Right.KEY_MANAGE)
    key = key_with_id(key_id)
    if request.method != "POST":
        crumbs = [("API keys", reverse("keys")), ("Revoke", "")]
        return answer(request, "keys/revoke.html", {"key": key, "title": "Revoke a key", "crumbs": crumbs})
    revoked = revoke_key(actor=actor, key_id=key_id)
    return done(request, f"The key {revoked.name} is revoked.", "keys")


@page
@require_http_methods(["GET", "HEAD", "POST"])
def key_limits(request: HttpRequest, key_id: str) -> HttpResponse:
    """Show the limits beside what was used on the last days, and on POST set them all."""
    actor = request_actor(request)
    require(actor, Right.KEY_MANAGE)
    key = key_with_id(key_id)
    typed: Mapping[str, Any] = key.limits
    refusal: Invalid | None = None
    if request.method == "POST":
        typed = request.POST
        try:
            limit_key(actor=actor, key_id=key_id, limits=read_limits(typed), reason=typed.get("reason", "")[:500])
        except Invalid as error:
            refusal = error
        else:
            return done(request, f"The limits of {key.name} are kept. Every process has them within a second.", "keys")
    use = usage_of(key_id)
    context = {
        "key": key,
        "title": "Limit a key",
        "crumbs": [("API keys", reverse("keys")), ("Limits", "")],
        "limits": _fields(typed, "key"),
        "reason": typed.get("reason", "") if refusal else "",
        "refusal": refusal,
        "shares": shares_of(key.limits, use),
        "days": use.days[:DAYS_SHOWN],
    }
    return answer(request, "keys/limits.html", context, refusal.status if refusal else 200)


def _show(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    state = request.GET.get("state", "")
    sort = request.GET.get("sort") or KEY_SORTS.default
    found = keys_page(state=state, sort=sort, cursor=request.GET.get("cursor"))
    uses = usage_of_each(found.results)
    rows = [(key, state_of(key), short_of(key.limits), shares_of(key.limits, uses[key.id])) for key in found.results]
    scopes = [(scope.value, text) for scope, text in SCOPE_TEXTS.items()]
    endpoints = list(Endpoint.objects.order_by("name").values_list("name", flat=True)[:200])
    typed_limits = context["typed"].get("limits", {})
    facts = {
        "rows": rows,
        "next": found.next,
        "state": state,
        "sort": sort,
        "scopes": scopes,
        "endpoint_names": endpoints,
        "limits": _fields(typed_limits, "new"),
        "limits_typed": any(typed_limits.values()),
    }
    return render(request, "keys/keys.html", facts | context, status=status)


def _typed(request: HttpRequest) -> dict[str, Any]:
    data = request.POST
    return {
        "name": data.get("name", "").strip(),
        "scopes": data.getlist("scopes"),
        "endpoints": data.getlist("endpoints"),
        "expires": data.get("expires", ""),
        "limits": {limit.name: data.get(limit.name, "") for limit in LIMITS},
    }


def _fields(typed: Mapping[str, Any], anchor: str) -> list[tuple[Limit, str, Any]]:
    """The fields of a form: each with its id and what is in it. Two forms of one page need different ids."""
    return [(limit, f"{anchor}-{limit.name}", _shown(typed.get(limit.name, ""))) for limit in LIMITS]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value)


def _expiry(text: str) -> datetime | None:
    """The end of the named day, UTC; empty is never."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    except ValueError as error:
        raise Unprocessable(f"Expires: {text!r} is no date such as 2027-01-31. Nothing was changed.") from error


def _curl(text: str, key: ApiKey) -> str:
    endpoint = key.endpoints[0] if key.endpoints else Endpoint.objects.order_by("name").values_list("name", flat=True).first() or "my-endpoint"
    return f"curl -H 'Authorization: Bearer {text}' {settings.ENVIRONMENT.predict_url}/v2/models/{endpoint}"
