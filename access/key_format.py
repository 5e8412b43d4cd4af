"""The form of an API key: ``sbx_<id>_<secret><crc>``. Pure; the data plane reads keys with it too.

The secret is 256 random bits; the CRC-32 lets a typing mistake, or a scanner for leaked keys, be told
from a real key without a look at the table. It protects nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from typing import NamedTuple

_ALPHABET = string.digits + string.ascii_letters
_ID_LENGTH = 12
_SECRET_LENGTH = 43  # the digits that 256 bits take in base 62
_CRC_LENGTH = 6  # the digits that 32 bits take in base 62
_KEY = re.compile(rf"sbx_([0-9A-Za-z]{{{_ID_LENGTH}}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CRC_LENGTH}}})", re.ASCII)


class ParsedKey(NamedTuple):
    id: str
    secret: str


def generate() -> ParsedKey:
    """Make the id and the secret of a new key."""
    identifier = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    return ParsedKey(identifier, _base62(secrets.randbits(256), _SECRET_LENGTH))


def derived(identifier: str, seed: bytes) -> ParsedKey:
    """Make the key that follows from ``seed``, 32 secret bytes: the same one every time."""
    return ParsedKey(identifier, _base62(int.from_bytes(seed), _SECRET_LENGTH))


def text_of(key: ParsedKey) -> str:
    """Write the key as its holder gets it."""
    return f"sbx_{key.id}_{key.secret}{_checksum(key)}"


def parse(text: str) -> ParsedKey | None:
    """Read a key; None for what cannot be one (wrong form, or mistyped)."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    key = ParsedKey(match[1], match[2])
    return key if match[3] == _checksum(key) else None


def secret_digest(secret: str) -> str:
    """Give what is kept of a secret: its SHA-256, 64 hex characters. A fast hash is right for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(key: ParsedKey) -> str:
    return _base62(zlib.crc32(f"{key.id}_{key.secret}".encode()), _CRC_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
