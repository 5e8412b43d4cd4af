"""API keys, checked in memory: by the digest of what was sent, so that no secret is kept here."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable

from access.key_format import parse, secret_digest
from serving.dataplane.errors import Denied, Unauthorized
from serving.table import KeyEntry

_MOST_SEEN = 10_000
PREDICT = ("predict", "operate", "admin")
_BEARER = b"bearer "


class KeyRing:
    """The keys of one route table. A key that was checked once is found again by the SHA-256 of its text."""

    def __init__(self, keys: Iterable[KeyEntry]) -> None:
        self._by_id = {key.id: key for key in keys}
        self._seen: dict[bytes, KeyEntry] = {}

    def check(self, authorization: bytes | None, api_key: bytes | None) -> KeyEntry:
        """Give the key that was sent in either header; raises Unauthorized."""
        text = api_key if authorization is None else authorization
        if not text:
            raise Unauthorized("An API key is needed. Send it as 'Authorization: Bearer sbx_...' or 'X-API-Key: sbx_...'.")
        digest = hashlib.sha256(text).digest()
        entry = self._seen.get(digest)
        if entry is None:
            entry = self._look_up(text)
            if len(self._seen) < _MOST_SEEN:
                self._seen[digest] = entry
        require_fresh(entry)
        return entry

    def _look_up(self, text: bytes) -> KeyEntry:
        if text[: len(_BEARER)].lower() == _BEARER:
            text = text[len(_BEARER) :].strip()
        parsed = parse(text.decode("latin-1"))
        if parsed is None:
            raise Unauthorized("The API key does not have the form sbx_<id>_<secret>. Look for a typing mistake.")
        entry = self._by_id.get(parsed.id)
        if entry is None or not hmac.compare_digest(entry.secret_digest, secret_digest(parsed.secret)):
            raise Unauthorized(f"The API key {parsed.id} is not known, or was revoked.")
        return entry


def require_fresh(key: KeyEntry) -> None:
    """Return unless ``key`` has expired, else raise Unauthorized."""
    if key.expires_at is not None and key.expires_at <= time.time():
        raise Unauthorized(f"The API key {key.id} has expired. Ask for a new one.")


def may_predict(key: KeyEntry, endpoint: str) -> bool:
    """Tell whether ``key`` may call ``endpoint``."""
    return (not key.endpoints or endpoint in key.endpoints) and _has_scope(key)


def require_predict(key: KeyEntry, endpoint: str) -> None:
    """Return if ``key`` may call ``endpoint``, else raise Denied that says why."""
    if may_predict(key, endpoint):
        return
    if key.endpoints and endpoint not in key.endpoints:
        raise Denied(f"The API key {key.id} is not for the endpoint '{endpoint}'. An admin can make a key that is.")
    require_scope(key)


def require_scope(key: KeyEntry) -> None:
    """Return if ``key`` may call any endpoint at all, else raise Denied."""
    if not _has_scope(key):
        raise Denied(f"The API key {key.id} lacks the scope predict. An admin can make a key that has it.")


def _has_scope(key: KeyEntry) -> bool:
    return any(scope in PREDICT for scope in key.scopes)
