"""The route table of the process that most tests share."""

from __future__ import annotations

import time
from pathlib import Path

from access.key_format import ParsedKey, generate, secret_digest, text_of
from access.limits import KeyLimits
from registry.signature import Feature, Kind
from serving.table import EndpointEntry, KeyEntry, Limits, RouteTable, ValidationPolicy
from tests.dataplane import models
from tests.dataplane.conftest import KEY_ENTRY, endpoint, table


def key(**settings: object) -> tuple[str, KeyEntry]:
    parsed: ParsedKey = generate()
    return text_of(parsed), KeyEntry(**{"id": parsed.id, "secret_digest": secret_digest(parsed.secret), "name": "k", "scopes": ("predict",)} | settings)  # type: ignore[arg-type]  # of several types


EXPIRED, _EXPIRED = key(expires_at=time.time() - 1)
ELSEWHERE, _ELSEWHERE = key(endpoints=("churn",))
READER, _READER = key(scopes=("read",))
OPERATOR, _OPERATOR = key(scopes=("predict", "operate"))
SMALL, _SMALL = key(limits=KeyLimits(max_body_bytes=2000))
MEDIUM, _MEDIUM = key(limits=KeyLimits(max_body_bytes=80_000))
WIDE, _WIDE = key(limits=KeyLimits(max_body_bytes=2**20, timeout_ms=60_000))
HASTY, _HASTY = key(limits=KeyLimits(timeout_ms=20))
OPERATES_CHURN, _OPERATES_CHURN = key(scopes=("predict", "operate"), endpoints=("churn",))
UNKNOWN = text_of(generate())


def document(artifacts: Path) -> RouteTable:
    """Give the table; its builds are put into ``artifacts``."""
    one, two = models.regressor(artifacts), models.regressor(artifacts, version=2, offset=0.5)
    churn, echo, slow = models.classifier(artifacts), models.every_type(artifacts), models.slow(artifacts)
    counts = models.counter(artifacts)
    whole = models.regressor(artifacts, version=3, offset=0.25, features=tuple(Feature(name=name, kind=Kind.INTEGER) for name in "abc"))
    quoted = tuple(Feature(name=name, kind=Kind.NUMBER) for name in ('screen 15"', "b", "c\\d"))
    inches = models.regressor(artifacts, version=4, offset=0.75, features=quoted)
    optional = tuple(Feature(name=name, kind=Kind.NUMBER, missing=name == "a") for name in "abc")
    single, double = (models.regressor(artifacts, version=5 + wide, offset=2, features=optional, double=bool(wide)) for wide in (0, 1))
    customers = models.customers(artifacts)
    typical = tuple(Feature(name=name, kind=Kind.INTEGER, typical=7.0) for name in "ab")
    counted = models.counter(artifacts, version=2, features=typical)
    shares = models.shares(artifacts)
    endpoints = [
        endpoint("sum", one, limits=Limits(max_rows=50, max_body_bytes=100_000)),
        endpoint("split", one, ("green", two, 30, False)),
        endpoint("by-feature", one, ("green", two, 30, False), sticky_on="a"),
        endpoint("shadowed", one, ("green", two, 0, True)),
        endpoint("churn", churn),
        endpoint("strict", churn, validation=ValidationPolicy(default="refuse")),
        endpoint("clipped", one, validation=ValidationPolicy(default="clip", features={"b": "replace", "c": "refuse"})),
        endpoint("echo", echo),
        endpoint("counts", counts),
        endpoint("whole", whole),
        endpoint("slow", slow, limits=Limits(timeout_ms=5000, max_concurrency=4)),
        endpoint("heavy", slow),
        endpoint("inches", inches),
        endpoint("two-types", single, ("green", double, 50, False)),
        endpoint("customers", customers),
        endpoint("filled", customers, validation=ValidationPolicy(default="replace")),
        endpoint("filled-matrix", one, validation=ValidationPolicy(features={"b": "replace"})),
        endpoint("filled-counts", counted, validation=ValidationPolicy(features={"a": "replace"})),
        endpoint("shares", shares),
        endpoint("filled-shadowed", one, ("green", two, 0, True), validation=ValidationPolicy(default="replace")),
        EndpointEntry(id="empty", name="empty", revision=1),
    ]
    keys = (KEY_ENTRY, _EXPIRED, _ELSEWHERE, _READER, _OPERATOR, _SMALL, _MEDIUM, _WIDE, _HASTY, _OPERATES_CHURN)
    return table([one, two, churn, echo, counts, whole, slow, inches, single, double, customers, counted, shares], endpoints, keys=keys)
