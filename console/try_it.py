"""Try it: a form made from the signature, the answer of every version that is asked, and the request to copy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from access.actors import Actor
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console import snippets
from console.answers import page
from console.endpoint import shown
from core.errors import Forbidden, SignalboxError
from registry.signature import Feature, Kind
from serving import try_it
from serving.queries import SlotDetail, endpoint_detail

_NAMED = re.compile(r"(?:[Ff]eature|Input) '([^']+)'")
"""How the data plane names a feature in a refusal."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one slot said; ``wrong`` instead, when it refused or did not answer."""

    slot: SlotDetail
    took_ms: float = 0.0
    prediction: dict[str, Any] = field(default_factory=dict)
    prediction_id: str = ""
    wrong: str = ""

    @property
    def headline(self) -> Any:
        return self.prediction.get("label", self.prediction.get("prediction", next(iter(self.prediction.values()), "")))

    @property
    def shares(self) -> list[tuple[str, float]]:
        """The probabilities, most likely first."""
        found = self.prediction.get("probabilities") or {}
        return sorted(found.items(), key=lambda pair: -pair[1]) if isinstance(found, dict) else []


@dataclass(frozen=True, slots=True)
class Input:
    """One field of the form: the feature, what it shows and what is wrong with it."""

    feature: Feature
    value: Any
    wrong: str = ""

    @property
    def note(self) -> str:
        """What the sample held: its bounds, and whether it may be empty."""
        low, high = self.feature.minimum, self.feature.maximum
        parts = [str(self.feature.kind)]
        if low is not None and high is not None:
            parts.append(f"{low:g} to {high:g}")
        if self.feature.missing:
            parts.append("may be empty")
        return ", ".join(parts)

    @property
    def choices(self) -> list[tuple[str, str]]:
        values = ["true", "false"] if self.feature.kind is Kind.BOOLEAN else list(self.feature.categories or ())
        return [(value, value) for value in (["", *values] if self.feature.missing else values)]


@require_http_methods(["GET", "HEAD", "POST"])
@page
def view(request: HttpRequest, name: str) -> HttpResponse:
    """Show the form with an example, then ask the versions and show what each says."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    detail = endpoint_detail(name)
    slots = [slot for slot in detail.slots if slot.filled and slot.signature]
    shape = detail.live or (slots[0] if slots else None)
    context = shown(actor, detail, "try") | {"title": f"Try {name}", "slots": slots, "shape": shape}
    if shape is None or shape.signature is None:
        return render(request, "endpoint/try_it.html", context)
    features = shape.signature.features
    typed = {f.name: request.POST.get(f"in.{f.name}", "") for f in features} if request.method == "POST" else snippets.example(features)
    row, wrong = _row(features, typed)
    asked = request.POST.get("slot", "")
    answers: list[Answer] = []
    if request.method == "POST" and not wrong:
        answers = [_ask(actor, name, slot, row) for slot in slots if asked in {"", slot.name}]
        wrong = _blamed(features, answers)
    url = settings.ENVIRONMENT.predict_url
    context |= {
        "inputs": [Input(feature, _shown(typed[feature.name]), wrong.get(feature.name, "")) for feature in features],
        "answers": answers,
        "asked": asked,
        "slot_choices": [("", "every version")] + [(slot.name, f"{slot.title} in {slot.name}") for slot in slots],
        "curl": snippets.curl(url, name, row),
        "python": snippets.python(url, name, row),
        "oip": snippets.oip(shape.signature, row),
    }
    failed = bool(wrong) or any(answer.wrong for answer in answers)
    return render(request, "endpoint/try_it.html", context, status=422 if failed else 200)


def _row(features: tuple[Feature, ...], typed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the fields as the kinds of the signature; what cannot be read is named."""
    row: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for feature in features:
        try:
            row[feature.name] = _value(feature, typed[feature.name])
        except ValueError:
            wrong[feature.name] = f"{feature.name} takes {feature.kind.words}, not {str(typed[feature.name])[:40]!r}."
            row[feature.name] = None
    return row, wrong


def _value(feature: Feature, typed: Any) -> Any:
    if not isinstance(typed, str) or feature.kind is Kind.TEXT:
        return None if typed == "" and feature.missing else typed
    text = typed.strip()
    if text == "":
        return None
    if feature.kind is Kind.BOOLEAN:
        return text.lower() in {"true", "1", "yes", "on"}
    return int(text) if feature.kind is Kind.INTEGER else float(text)


def _shown(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _ask(actor: Actor, endpoint: str, slot: SlotDetail, row: dict[str, Any]) -> Answer:
    """Ask one slot; the data plane is called as every client calls it, and what it refuses is shown in its words."""
    try:
        said = try_it.ask(actor=actor, endpoint=endpoint, rows=[row], slot=slot.name)
    except Forbidden:
        raise
    except SignalboxError as error:
        return Answer(slot, wrong=error.message)
    return Answer(slot, said.took_ms, said.predictions[0], said.prediction_id)


def _blamed(features: tuple[Feature, ...], answers: list[Answer]) -> dict[str, str]:
    """Put what the data plane says to the field it names."""
    named = {name: answer.wrong for answer in answers for name in _NAMED.findall(answer.wrong)}
    return {feature.name: named[feature.name] for feature in features if feature.name in named}
