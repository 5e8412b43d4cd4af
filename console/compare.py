"""Two versions of a model beside each other: answers, metrics, columns, size, speed, and whether b could replace a."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from access.actors import Actor
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import is_fragment, page
from console.templatetags.formats import counted
from core.errors import Invalid
from registry.answers import Answers
from registry.compare import Comparison
from registry.compare import compare as compare_versions
from registry.compare_answers import compare_answers
from registry.queries import VersionDetail


@page
@require_safe
def compare(request: HttpRequest, name: str) -> HttpResponse:
    """``?a=12&b=13``; without them there is nothing to compare."""
    actor = request_actor(request)
    require(actor, Right.MODEL_VIEW, f"model:{name}")
    found = compare_versions(name, _number(request, "a"), _number(request, "b"))
    changed = [column for column in found.columns if column.change != "same"]
    context = {"changed": changed, "same": len(found.columns) - len(changed), "facts": list(_facts(found.a, found.b))}
    return render(request, "compare/compare.html", context | _shown(actor, name, found))


@page
@require_http_methods(["GET", "HEAD", "POST"])
def answers(request: HttpRequest, name: str) -> HttpResponse:
    """The card of the answers alone: asked for while they are compared; a POST begins it."""
    actor = request_actor(request)
    require(actor, Right.MODEL_VIEW, f"model:{name}")
    a, b = _number(request, "a"), _number(request, "b")
    if request.method == "POST":
        compare_answers(actor=actor, model=name, a=a, b=b)
    if not is_fragment(request):
        return redirect(f"{reverse('compare', args=[name])}?a={a}&b={b}")
    return render(request, "compare/_answers.html", _shown(actor, name, compare_versions(name, a, b)))


def _shown(actor: Actor, name: str, found: Comparison) -> dict[str, Any]:
    """Give what the card of the answers needs."""
    context: dict[str, Any] = {"name": name, "c": found, "may_compare": actor.may(Right.MODEL_REGISTER, f"model:{name}")}
    if found.answers:
        shares = found.answers.shares
        context["words"] = _words(found.answers)
        context["bars"] = {"labels": [pair.name for pair in shares], "a": [pair.a for pair in shares], "b": [pair.b for pair in shares]}
    return context


def _words(answers: Answers) -> tuple[str, str, str]:
    """Give the verdict as a word, its tone and a sentence that says what it means for who swaps the versions."""
    changed = answers.rows - answers.agreeing
    if answers.verdict == "same":
        return "same answers", "good", "Swapping them changes no answer on these rows."
    what = "another class" if answers.kind == "classes" else "another number"
    few = "no row" if not changed else f"{counted(changed, 'rows')} of {answers.rows:,}"
    sentence = f"Swapping them gives {what} to {few}."
    return ("close", "good", sentence) if answers.verdict == "close" else ("different", "warn", sentence)


def _facts(a: VersionDetail, b: VersionDetail) -> Iterator[tuple[str, str, float | None, float | None]]:
    """Give (name, unit, value of a, value of b) of what was measured when they were checked."""
    first, second = a.build, b.build
    yield "Build size", "bytes", first.size_bytes if first else None, second.size_bytes if second else None
    yield "One row, ONNX", "ms", first.single_row_ms if first else None, second.single_row_ms if second else None
    for name, key in (("Sample rows", "rows"), ("Sample rows that agree with the original", "agreeing")):
        yield name, "rows", *(detail.version.conversion.get("agreement", {}).get(key) for detail in (a, b))


def _number(request: HttpRequest, key: str) -> int:
    text = request.GET.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid(f"The address needs two version numbers, such as ?a=1&b=2; {key} is {text[:20]!r}.")
    return int(text)
