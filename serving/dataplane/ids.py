"""Prediction ids: UUIDv7 as 16 bytes and as text, made in bulk for the hot path."""

from __future__ import annotations

import os
from binascii import hexlify

_POOL = 256
_TAIL = 10


class IdMaker:
    """Makes UUIDv7s (RFC 9562, section 5.7); what is random in them is drawn for many at once."""

    __slots__ = ("_tails",)

    def __init__(self) -> None:
        self._tails: list[bytes] = []

    def make(self, received_us: int) -> bytes:
        """Give the next id, 16 bytes, for something that came ``received_us`` microseconds after 1970."""
        tails = self._tails
        if not tails:
            tails += _random_tails()
        return (received_us // 1000).to_bytes(6, "big") + tails.pop()


def _random_tails() -> list[bytes]:
    """Draw what follows the time in an id: version 7, 12 random bits, variant 2, 62 random bits."""
    drawn = bytearray(os.urandom(_TAIL * _POOL))
    for at in range(0, len(drawn), _TAIL):
        drawn[at] = drawn[at] & 0x0F | 0x70
        drawn[at + 2] = drawn[at + 2] & 0x3F | 0x80
    return [bytes(drawn[at : at + _TAIL]) for at in range(0, len(drawn), _TAIL)]


def text_of(identifier: bytes) -> bytes:
    """Write an id in the usual 8-4-4-4-12 form."""
    digits = hexlify(identifier)
    return b"%b-%b-%b-%b-%b" % (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
