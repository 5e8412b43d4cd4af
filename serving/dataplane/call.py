"""One call on its way through the engine, whatever transport it came by, and the paths that lead to one."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from core import request_ids
from core.metrics.openness import FORWARDING
from serving.dataplane.tensors import Array

if TYPE_CHECKING:
    from serving.dataplane.limits import Account, Bounds, Rate
    from serving.dataplane.live import EndpointState, Slot
    from serving.dataplane.regions import Regions
    from serving.dataplane.watch import Watched
    from serving.table import KeyEntry

Headers = bytes
"""The lines of an answer's head as they go on the wire, each with its line end."""
JSON: Headers = b"content-type: application/json\r\n"
Reply = Callable[[int, Headers, bytes], None]
Render = Callable[["Call", "list[Array]", int, "int | None"], tuple[Headers, bytes]]


class Route(NamedTuple):
    """Where a path leads; ``form`` is ``infer``, ``predict`` or ``invocations``."""

    endpoint: str
    version: str
    form: str


NOWHERE = Route("", "", "")
"""Of a call that asks for no prediction."""
_NO_ARRAYS: dict[str, Array] = {}
_FORWARDING = frozenset(name.encode() for name in FORWARDING)
_PATH = re.compile(r"/v2/models/(?P<endpoint>[^/]+)(?:/versions/(?P<version>[^/]+))?/(?P<form>infer|predict|invocations)/?")


def route_of(path: str) -> Route | None:
    """Read a path that asks for a prediction; None for any other."""
    match = _PATH.fullmatch(path)
    return Route(match["endpoint"], match["version"] or "", match["form"]) if match else None


def is_forwarded(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a request says that it came through a proxy."""
    return not _FORWARDING.isdisjoint(headers)


class Head:
    """What a request says before its body, as far as predictions read it.

    A client sends the same head again and again, so a connection keeps it (``protocol.py``), and the
    engine keeps here what it found out about it: ``key``, ``account``, ``rate`` and ``bounds`` hold while ``token`` is the route table's,
    and ``regions`` are those of the process.
    ``length`` is the body's as declared, None where it is not.
    """

    __slots__ = (
        "accept_encoding",
        "account",
        "api_key",
        "authorization",
        "bounds",
        "content_type",
        "demo",
        "encoding",
        "header_length",
        "is_forwarded",
        "key",
        "length",
        "rate",
        "regions",
        "request_id",
        "route",
        "sticky",
        "token",
        "traceparent",
    )

    def __init__(self, route: Route, headers: Mapping[bytes, bytes]) -> None:
        get = headers.get
        self.route = route
        self.authorization = get(b"authorization")
        self.api_key = get(b"x-api-key")
        self.encoding = get(b"content-encoding")
        self.accept_encoding = get(b"accept-encoding")
        self.header_length = get(b"inference-header-content-length")
        self.content_type = get(b"content-type", b"")
        self.sticky = get(b"signalbox-sticky-key")
        self.demo = b"signalbox-demo" in headers
        self.is_forwarded = is_forwarded(headers)
        length = get(b"content-length", b"")
        self.length = int(length) if length.isdigit() else None
        given = get(b"x-request-id")
        self.request_id = request_ids.accepted(given.decode("latin-1")) if given else None
        self.traceparent = get(b"traceparent", b"").decode("latin-1")
        self.token: object = None
        self.key: KeyEntry
        self.account: Account
        self.bounds: Bounds
        self.rate: Rate | None = None
        self.regions: Regions


class Call:
    """A request for predictions. The transport gives the first three; the engine fills in the rest.

    ``alone``: it was in a batch on which the model failed, and runs in none any more.
    ``is_plain``: one row, all outputs wanted as JSON in the protocol's form; such calls are rendered together.
    ``copied`` are the inputs that lay in shared memory, by name; None before they are copied, or if there are none.
    ``received`` is on the performance counter's clock, ``received_us`` in microseconds since 1970.
    """

    __slots__ = (
        "alone",
        "arrays",
        "body",
        "cache_key",
        "copied",
        "counted",
        "deadline",
        "done",
        "endpoint",
        "head",
        "id",
        "is_plain",
        "key_id",
        "received",
        "received_us",
        "render",
        "reply",
        "request_id",
        "rows",
        "slot",
        "sticky",
        "wanted",
        "watched",
    )

    def __init__(self, head: Head, body: bytes, reply: Reply) -> None:
        self.head = head
        self.body = body
        self.reply: Reply | None = reply
        self.sticky: str | bytes | None = head.sticky
        self.received = time.perf_counter()
        self.received_us = time.time_ns() // 1000
        self.done = self.counted = self.is_plain = self.alone = False
        self.deadline = 0.0
        self.cache_key = b""
        self.id = b""
        self.key_id: str | None = None
        self.request_id: str | None = None
        self.endpoint: EndpointState | None = None
        self.slot: Slot | None = None
        self.arrays: dict[str, Array] = _NO_ARRAYS
        self.rows = 0
        self.wanted: Any = None
        self.copied: dict[str, Array] | None = None
        self.watched: Watched | None = None
        self.render: Render | None = None

    def path(self) -> str:
        """Give where it was asked, for the access log."""
        endpoint, version, form = self.head.route
        return f"/v2/models/{endpoint}/versions/{version}/{form}" if version else f"/v2/models/{endpoint}/{form}"

    def span(self, status: int) -> tuple[str, dict[str, Any]]:
        """Name it in a trace, with what OpenTelemetry's conventions want to know of its protocol."""
        route = f"/v2/models/{{endpoint}}/{self.head.route.form}"
        return f"POST {route}", {"http.request.method": "POST", "http.route": route, "http.response.status_code": status}

    def shadow_of(self, slot: Slot) -> Call:
        """Give a copy for a shadow slot: same id and rows, nobody to answer."""
        other = copy.copy(self)
        other.slot, other.reply, other.render, other.counted = slot, None, None, False
        other.is_plain, other.watched, other.body = False, None, b""
        return other
