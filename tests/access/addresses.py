"""Every address of the URLconf, with its parameters filled in: what the walks over them walk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

NAME = "walk"
_GIVEN = {"number": "1", "slot": "blue", "username": "viewer", "prediction_id": "01890000-0000-7000-8000-000000000000"}
_BY_CONVERTER = {"int": "1", "uuid": "01890000-0000-7000-8000-000000000000"}
_PARAMETER = re.compile(r"<(?:(?P<converter>\w+):)?(?P<name>\w+)>")


@dataclass(frozen=True)
class Address:
    """``name`` as in the URLconf; ``view`` is the DRF view class, None for a page."""

    name: str
    path: str
    view: type[Any] | None
    methods: frozenset[str]

    def __str__(self) -> str:
        return self.name


def every_address() -> list[Address]:
    return list(_below(get_resolver(), "/"))


def _below(resolver: URLResolver, prefix: str) -> Iterator[Address]:
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _below(entry, path)
        elif isinstance(entry, URLPattern):
            yield _address(entry, path)


def _address(pattern: URLPattern, route: str) -> Address:
    view = getattr(pattern.callback, "cls", None)
    methods = {name.upper() for name in view.http_method_names if hasattr(view, name)} - {"OPTIONS"} if view else {"GET", "POST"}
    path = _PARAMETER.sub(lambda match: _GIVEN.get(match["name"]) or _BY_CONVERTER.get(match["converter"] or "", NAME), route)
    assert not set("<>^$()") & set(path), f"{route} is no plain path: teach tests/access/addresses.py to fill it in"
    return Address(str(pattern.name or route), path, view, frozenset(methods))
