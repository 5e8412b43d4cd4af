"""Two versions of a model beside each other: metrics, columns, size, speed, and whether b could replace a."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import page
from core.errors import Invalid
from registry.compare import compare as compare_versions
from registry.queries import VersionDetail


@page
@require_safe
def compare(request: HttpRequest, name: str) -> HttpResponse:
    """``?a=12&b=13``; without them there is nothing to compare."""
    require(request_actor(request), Right.MODEL_VIEW, f"model:{name}")
    a, b = _number(request, "a"), _number(request, "b")
    found = compare_versions(name, a, b)
    changed = [column for column in found.columns if column.change != "same"]
    context = {"name": name, "c": found, "changed": changed, "same": len(found.columns) - len(changed), "facts": list(_facts(found.a, found.b))}
    return render(request, "compare/compare.html", context)


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
