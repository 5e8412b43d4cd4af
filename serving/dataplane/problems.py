"""The protocol's error body."""

from __future__ import annotations

import orjson

from core.errors import SignalboxError


def body_of(error: SignalboxError) -> bytes:
    """Write ``{"error": text}``, which is what every client of the protocol reads."""
    return orjson.dumps({"error": error.message.encode("utf-8", "replace").decode()})
