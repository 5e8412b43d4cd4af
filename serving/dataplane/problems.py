"""The protocol's error answers: body and headers."""

from __future__ import annotations

import orjson

from core.errors import SignalboxError


def headers_of(error: SignalboxError) -> bytes:
    """Give the header lines that go with a refusal: Retry-After, Allow."""
    headers: bytes = getattr(error, "headers", b"")
    return headers


def body_of(error: SignalboxError) -> bytes:
    """Write ``{"error": text}``, which is what every client of the protocol reads."""
    return orjson.dumps({"error": error.message.encode("utf-8", "replace").decode()})
