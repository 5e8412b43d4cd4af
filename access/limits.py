"""What one API key may use at most. Pure: the console sets it, the data plane holds to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from core.errors import Invalid

LEAST_PER_S = 1e-5
_MOST = {
    "requests_per_s": 1_000_000,
    "burst": 1_000_000,
    "max_rows": 1_000_000,
    "max_body_bytes": 2**30,
    "timeout_ms": 300_000,
    "max_concurrency": 100_000,
    "rows_per_day": 10**15,
    "rows_in_all": 10**15,
}


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """0 is no limit. The rate and the budgets hold over all endpoints, and over all processes as far as these hear of each other.

    ``burst`` is how many requests may come at once before the rate holds; 0: as many as come in a second, at least one.
    A day ends at midnight UTC. ``max_concurrency`` is per process. ``max_body_bytes`` holds before and after unpacking, and
    ``timeout_ms`` for the whole answer, where the endpoint's own are not narrower.
    """

    requests_per_s: float = 0.0
    burst: int = 0
    max_rows: int = 0
    max_body_bytes: int = 0
    timeout_ms: int = 0
    max_concurrency: int = 0
    rows_per_day: int = 0
    rows_in_all: int = 0


def checked_key_limits(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Give the limits as JSON, without those that are 0; raise Invalid that names the limit and its range."""
    unknown = sorted(set(limits) - set(_MOST))
    if unknown:
        raise Invalid(f"A key has no limit {unknown[0]!r}: its limits are {', '.join(_MOST)}. Nothing was changed.", field="limits")
    try:
        document: dict[str, Any] = msgspec.to_builtins(msgspec.convert(dict(limits), KeyLimits))
    except msgspec.ValidationError as error:
        raise Invalid(f"The key's limits cannot be read: {error}. Nothing was changed.", field="limits") from error
    for name, most in _MOST.items():
        if not 0 <= document[name] <= most:
            value = str(document[name])[:24]
            raise Invalid(f"The limit {name} is {value}; it must lie between 0, which is no limit, and {most}. Nothing was changed.", field="limits")
    require_rate("limits", document["requests_per_s"])
    if document["burst"] and not document["requests_per_s"]:
        raise Invalid("A burst needs a rate: set requests_per_s too. Nothing was changed.", field="limits")
    return {name: value for name, value in document.items() if value}


def require_rate(field: str, per_s: float) -> None:
    """Raise Invalid for a rate so low that nobody can mean it; 0 is no limit."""
    if 0 < per_s < LEAST_PER_S:
        raise Invalid(f"In {field}, requests_per_s is {per_s:g}: use at least {LEAST_PER_S:g}, one a day, or 0 for no limit. Nothing was changed.", field=field)
