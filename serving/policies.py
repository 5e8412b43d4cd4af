"""The policies of an endpoint: what is logged, what happens with odd values, the limits and the cache. Checks their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from access.limits import require_rate
from core.errors import Invalid
from serving.models import Endpoint
from serving.segments import LONGEST_CALL_S
from serving.table import CachePolicy, Limits, ValidationPolicy

VALIDATION_CHOICES = ("refuse", "clip", "replace", "flag")
# (least, most) of each limit; beyond these one request could hold a process for minutes.
_BOUNDS = {
    "max_rows": (1, 1_000_000),
    "max_body_bytes": (1024, 2**30),
    "timeout_ms": (1, LONGEST_CALL_S * 1000),
    "max_concurrency": (1, 100_000),
    "requests_per_s": (0, 1_000_000),
    "burst": (0, 1_000_000),
}
_CACHE_BOUNDS = {"ttl_s": (0, 604_800), "max_bytes": (2**20, 2**36)}


def checked_log_policy(policy: str) -> str:
    """Give ``policy`` if it is one, else raise Invalid that lists them."""
    if policy not in Endpoint.LogPolicy.values:
        raise Invalid(f"The log policy {policy!r} is unknown: choose {', '.join(Endpoint.LogPolicy.values)}.", field="log_policy")
    return policy


def checked_log_share(share: float) -> float:
    """Give ``share`` if it lies in 0 to 1, else raise Invalid."""
    if not 0 <= share <= 1:
        raise Invalid(f"The logged share is {share}; it must lie between 0 and 1.", field="log_share")
    return float(share)


def checked_validation(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Give the validation policy as JSON, complete; raise Invalid that names the feature and the choices."""
    try:
        value = msgspec.convert(dict(policy), ValidationPolicy)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The validation policy is wrong: {error}. It looks like {{'default': 'flag', 'features': {{'age': 'refuse'}}}}.", field="validation"
        ) from error
    for name, choice in [("default", value.default), *value.features.items()]:
        if choice not in VALIDATION_CHOICES:
            raise Invalid(f"The validation policy of {name} is {choice!r}: choose {', '.join(VALIDATION_CHOICES)}.", field="validation")
    document: dict[str, Any] = msgspec.to_builtins(value)
    return document


def checked_limits(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Give the limits as JSON, complete; raise Invalid that names the limit and its range."""
    document = _bounded("limits", limits, Limits, _BOUNDS)
    require_rate("limits", document["requests_per_s"])
    return document


def checked_cache(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Give the cache's policy as JSON, complete; raise Invalid that names what is wrong and its range."""
    return _bounded("cache", policy, CachePolicy, _CACHE_BOUNDS)


def _bounded(field: str, given: Mapping[str, Any], kind: type[msgspec.Struct], bounds: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    names = kind.__struct_fields__
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise Invalid(f"There is no {unknown[0]!r} in {field}: it has {', '.join(names)}.", field=field)
    try:
        document: dict[str, Any] = msgspec.to_builtins(msgspec.convert(dict(given), kind))
    except msgspec.ValidationError as error:
        raise Invalid(f"The {field} cannot be read: {error}.", field=field) from error
    for name, (least, most) in bounds.items():
        if not least <= document[name] <= most:
            raise Invalid(f"In {field}, {name} is {str(document[name])[:24]}; it must lie between {least} and {most}.", field=field)
    return document
