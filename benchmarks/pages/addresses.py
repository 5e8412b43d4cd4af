"""The addresses that are asked: every named pattern that answers a GET, with its parts filled in, and the filters and ranges that read much."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from django.urls import URLPattern, URLResolver, get_resolver

from benchmarks.pages.fill import BLUE, ENDPOINT, GREEN, MODEL
from core.clock import now

_PART = re.compile(r"<(?:\w+:)?(\w+)>")
_LEFT_OUT = {
    "sign-in-link": "there is no such link",
    "predictions-export": "as long as the log",
    "predictions-export-parquet": "as long as the log",
    "api-endpoint-predictions-export": "as long as the log",
    "audit-export": "as long as the log",
    "version-download": "a file",
    "api-version-download": "a file",
    "api-alias": "there is no alias",
    "api-person-grant": "there is no grant",
    "gallery": "for developers alone",
    "compare-answers": "needs two versions that were compared",
    "compare": "needs two versions",
    "api-compare": "needs two versions",
}


class Address(NamedTuple):
    """``text`` with the query string."""

    name: str
    text: str


def addresses(parts: Mapping[str, object]) -> list[Address]:
    """Give them all; ``parts`` are the values of what differs from one filled database to another."""
    found = [Address(name, _filled(route, parts)) for name, route in _patterns(get_resolver().url_patterns, "/") if name not in _LEFT_OUT]
    return found + [Address(f"{name}, {what}", f"{path}?{urlencode(query)}") for name, what, path, query in _with_queries(str(parts["key_id"]))]


def _patterns(patterns: list[URLPattern | URLResolver], before: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern.url_patterns, route)
        elif pattern.name:
            yield pattern.name, route


def _filled(route: str, parts: Mapping[str, object]) -> str:
    """Put values into a route; raises KeyError for a part that has none, so that no new address is left out by accident."""
    fixed = {"name": MODEL if "models/" in route else ENDPOINT, "username": "admin", "slot": "green", "key": "in.feature_0", "feature": "in.feature_0"}
    known = {**fixed, "chart": "quantiles", **parts}
    if "alerts/" not in route and "<int:number>" in route:
        known["number"] = GREEN
    return _PART.sub(lambda part: str(known[part[1]]), route)


def _with_queries(key_id: str) -> Iterator[tuple[str, str, str, dict[str, object]]]:
    at = now()
    span = {"since": (at - timedelta(hours=12)).isoformat(), "until": (at - timedelta(hours=11)).isoformat()}
    log, watched = f"endpoints/{ENDPOINT}/predictions/", f"monitoring/{ENDPOINT}/"
    filters: list[tuple[str, dict[str, object]]] = [
        ("of nobody's request", {"request_id": "nobody"}),
        ("of an hour", span),
        ("of nobody in an hour", {"request_id": "nobody", **span}),
        ("since an hour ago", {"since": (at - timedelta(hours=1)).isoformat()}),
        ("of a slot", {"slot": "green"}),
        ("of no version", {"version": 99}),
    ]
    for what, query in [("flagged", {"flagged": "on"}), *filters]:
        yield "predictions", what, f"/{log}", query
    for what, query in [("flagged", {"flagged": "true"}), ("of nobody's key", {"key_id": "nobody"}), *filters]:
        yield "api-endpoint-predictions", what, f"/api/v1/{log}", query
    for window in ("1h", "6h", "24h"):
        yield "api-endpoint-traffic", window, f"/api/v1/endpoints/{ENDPOINT}/traffic/", {"window": window}
        yield "endpoint-series", window, f"/endpoints/{ENDPOINT}/series.json", {"window": window}
    week: dict[str, object] = {"hours": 168}
    for name, path in (
        ("monitoring-endpoint", f"/{watched}"),
        ("monitoring-performance", f"/{watched}performance/"),
        ("feature", f"/{watched}features/in.feature_0/"),
        ("feature-series", f"/{watched}features/in.feature_0/series/quantiles/"),
        ("api-drift", f"/api/v1/endpoints/{ENDPOINT}/drift/"),
        ("api-drift-feature", f"/api/v1/endpoints/{ENDPOINT}/drift/in.feature_0/"),
        ("api-quality", f"/api/v1/endpoints/{ENDPOINT}/quality/"),
        ("api-performance", f"/api/v1/endpoints/{ENDPOINT}/performance/"),
    ):
        yield name, "a week", path, week
    yield "alerts", "all", "/alerts/", {"state": "all"}
    yield "alerts", "of an endpoint", "/alerts/", {"state": "all", "endpoint": ENDPOINT}
    yield "audit", "of a word", "/audit/", {"q": "nothing"}
    yield "keys", "revoked", "/keys/", {"state": "revoked"}
    yield "models", "of a word", "/models/", {"q": "model-0"}
    yield "model", "of a word", f"/models/{MODEL}/", {"q": "nothing"}
    yield "search", "of a word", "/search/", {"q": "churn"}
    yield "compare", "two versions", f"/models/{MODEL}/compare/", {"a": BLUE, "b": GREEN}
    yield "api-compare", "two versions", f"/api/v1/models/{MODEL}/compare/", {"a": BLUE, "b": GREEN}
