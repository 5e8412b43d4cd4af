"""The settings of one endpoint: what keeps callers on a slot, the log, masked inputs, odd values, limits, the cache; and deleting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from access.actors import Actor
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import answer, done, page
from console.endpoint import shown
from console.endpoints import LOG_POLICIES
from console.templatetags.formats import counted, number, share
from core.errors import Conflict, Invalid, SignalboxError, Unprocessable
from serving.delete_endpoint import delete_endpoint
from serving.edit_endpoint import edit_endpoint
from serving.policies import VALIDATION_CHOICES
from serving.queries import EndpointDetail, FeatureActions, endpoint_detail, validation_actions
from serving.table import CachePolicy, Limits

_LIMITS = (
    ("max_rows", "Rows per request", "rows"),
    ("max_body_bytes", "Size of a request", "bytes"),
    ("timeout_ms", "Time for an answer", "ms"),
    ("max_concurrency", "Requests at once, per process", "requests"),
    ("requests_per_s", "Rate of each key", "requests per second; 0 is no limit"),
    ("burst", "Burst of each key", "requests at once before the rate holds; 0: those of a second"),
)
_WORDS = {
    "refuse": "refuse the request",
    "clip": "clip it to the bounds",
    "replace": "put in the typical value, also for one that is missing",
    "flag": "pass it and flag it",
}
_FIELDS = ("description", "sticky_on", "log_policy", "log_percent", "validation", "cache_ttl_s", "cache_mib", "cache_private", "reason")
_CACHE_CHOICES = [("", "every key that sends the same rows"), ("private", "only the key that sent them before")]
_CHOICES = [(choice, f"{choice}: {_WORDS.get(choice, choice)}") for choice in VALIDATION_CHOICES]


@require_http_methods(["GET", "HEAD", "POST"])
@page
def view(request: HttpRequest, name: str) -> HttpResponse:
    """Show the settings, then change those that differ."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    if request.method != "POST":
        return _page(request, actor, endpoint_detail(name))
    try:
        revision = int(request.POST.get("revision", "0") or 0)
        edit_endpoint(actor=actor, endpoint=name, changes=_changes(request), revision=revision, reason=request.POST.get("reason", "")[:500])
    except (ValueError, OverflowError):
        return _page(request, actor, endpoint_detail(name), Invalid("A number is missing or not a number. Nothing was changed."))
    except (Invalid, Conflict) as error:
        return _page(request, actor, endpoint_detail(name), error)
    return done(request, "The settings are kept. Every process has them within a second.", "endpoint-settings", name)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def delete(request: HttpRequest, name: str) -> HttpResponse:
    """Ask for the name, then delete the endpoint with its ledger."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_DELETE, f"endpoint:{name}")
    detail = endpoint_detail(name)
    wrong: SignalboxError | None = None
    if request.method == "POST":
        try:
            if request.POST.get("name", "").strip() != name:
                raise Unprocessable(f"Type {name} to delete it. Nothing was changed.")  # noqa: TRY301  # shown like the verb's own refusals
            delete_endpoint(actor=actor, endpoint=name, revision=int(request.POST.get("revision") or 0), reason=request.POST.get("reason", "")[:500])
        except (Conflict, Unprocessable) as error:
            wrong = error
        else:
            return done(request, f"{name} is deleted.", "endpoints")
    crumbs = [("Endpoints", reverse("endpoints")), (name, reverse("endpoint", args=[name])), ("Delete", "")]
    context = shown(actor, detail, "settings") | {"title": f"Delete {name}", "crumbs": crumbs, "errors": [wrong.message] if wrong else []}
    return answer(request, "endpoint/_delete.html", context, wrong.status if wrong else 200)


def _page(request: HttpRequest, actor: Actor, detail: EndpointDetail, wrong: SignalboxError | None = None) -> HttpResponse:
    limits = msgspec.to_builtins(msgspec.convert(detail.limits, Limits))
    policy = detail.validation.get("features", {})
    live = detail.live
    posted = request.POST if wrong else None
    features = [] if live is None or live.signature is None else [feature.name for feature in live.signature.features]
    done = validation_actions(detail.name)
    notes = {each.feature: _note(each) for each in done.features}
    context = shown(actor, detail, "settings") | {
        "title": f"Settings of {detail.name}",
        "wrong": wrong.message if wrong else "",
        "typed": _typed(detail, posted),
        "limits": [(key, label, unit, posted.get(key) if posted else limits[key]) for key, label, unit in _LIMITS],
        "policies": LOG_POLICIES,
        "cache_choices": _CACHE_CHOICES,
        "choices": _CHOICES,
        "feature_choices": [("", "as by default"), *_CHOICES],
        "features": [(feature, (posted.get(f"feature.{feature}") if posted else policy.get(feature)) or "", notes.get(feature, "")) for feature in features],
        "checked": done.rows,
        "masks": _masks(detail, posted),
        "may_unmask": actor.may(Right.PREDICTIONS_UNMASK, f"endpoint:{detail.name}"),
    }
    return render(request, "endpoint/settings.html", context, status=wrong.status if wrong else 200)


@dataclass(frozen=True, slots=True)
class _Masks:
    """``ticks``: the features of the versions in the slots, whether each is ticked and whether it is masked now; ``others``: further names, one a line."""

    ticks: list[tuple[str, bool, bool]]
    others: str


def _masks(detail: EndpointDetail, posted: Any) -> _Masks:
    signatures = [slot.signature for slot in detail.slots if slot.signature]
    there = list(dict.fromkeys(feature.name for signature in signatures for feature in signature.features))
    ticked = posted.getlist("masked") if posted else detail.masked_inputs
    others = posted.get("masked_others", "") if posted else "\n".join(name for name in detail.masked_inputs if name not in there)
    return _Masks([(name, name in ticked, name in detail.masked_inputs) for name in there], others)


def _note(done: FeatureActions) -> str:
    """Say what was done with the values of a feature: ``412 clipped, 4.0 % of the rows; 3 requests refused``."""
    words = (("clipped", done.clipped), ("replaced", done.replaced), ("missing and replaced", done.filled), ("flagged", done.flagged))
    values = ", ".join(f"{number(count, 0)} {word}" for word, count in words if count)
    parts = [f"{values}, {share(done.share)} of the rows"] if values else []
    if done.refused:
        parts.append(f"{counted(done.refused, 'requests')} refused")
    return "; ".join(parts)


def _typed(detail: EndpointDetail, posted: Any) -> dict[str, Any]:
    """What the fields show: what was typed, else what holds."""
    if posted:
        return {key: posted.get(key, "") for key in _FIELDS}
    cache = msgspec.convert(detail.cache, CachePolicy)
    return {
        "description": detail.description,
        "sticky_on": detail.sticky_on,
        "log_policy": detail.log_policy,
        "log_percent": f"{detail.log_share * 100:g}",
        "validation": detail.validation.get("default", "flag"),
        "cache_ttl_s": f"{cache.ttl_s:g}",
        "cache_mib": f"{cache.max_bytes / 2**20:g}",
        "cache_private": "private" if cache.private else "",
        "reason": "",
    }


def _changes(request: HttpRequest) -> dict[str, Any]:
    """Read the form; ValueError for what is no number."""
    post = request.POST
    features = {key.removeprefix("feature."): value for key, value in post.items() if key.startswith("feature.") and value}
    return {
        "description": post.get("description", "").strip(),
        "sticky_on": post.get("sticky_on", "").strip(),
        "log_policy": post.get("log_policy", ""),
        "log_share": float(post.get("log_percent", "100") or 100) / 100,
        "validation": {"default": post.get("validation", ""), "features": features},
        "limits": {key: _number(post.get(key, "")) for key, _, _ in _LIMITS},
        "cache": {
            "ttl_s": float(post.get("cache_ttl_s", "")),
            "max_bytes": int(float(post.get("cache_mib", "")) * 2**20),
            "private": post.get("cache_private") == "private",
        },
        **_masked(post),
    }


def _masked(post: Any) -> dict[str, list[str]]:
    """Read the masks; a form that does not have them takes none off."""
    others = post.get("masked_others")
    return {} if others is None else {"masked_inputs": [*post.getlist("masked"), *(line for line in others.replace("\r\n", "\n").split("\n") if line)]}


def _number(text: str) -> float:
    """Read a whole number as such, any other as a fraction; ValueError for what is none."""
    return int(text) if text.strip().isdigit() else float(text)
