"""Prediction ids: UUIDv7 as 16 bytes and as text, made in bulk for the hot path."""

from __future__ import annotations

import os
import time

_POOL = 1024


class IdMaker:
    """Makes UUIDv7s (RFC 9562, section 5.7); random bytes are drawn for many at once."""

    __slots__ = ("_at", "_random")

    def __init__(self) -> None:
        self._random = b""
        self._at = 0

    def make(self) -> bytes:
        """Give the next id, 16 bytes."""
        at = self._at
        if at >= len(self._random):
            self._random = os.urandom(10 * _POOL)
            at = 0
        self._at = at + 10
        tail = int.from_bytes(self._random[at : at + 10], "big") & 0x0FFF_3FFF_FFFF_FFFF_FFFF | 0x7000_8000_0000_0000_0000
        return (time.time_ns() // 1_000_000).to_bytes(6, "big") + tail.to_bytes(10, "big")


def text_of(identifier: bytes) -> str:
    """Write an id in the usual 8-4-4-4-12 form."""
    digits = identifier.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
