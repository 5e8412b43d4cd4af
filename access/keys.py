"""API keys: issued once, kept as a digest, limited, revoked for good; and the actor of a key."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from access import audit
from access.actors import EVERYTHING, Actor
from access.errors import KeyNotValid, NameNotAllowed
from access.key_format import generate, parse, secret_digest, text_of
from access.limits import checked_key_limits
from access.models import ApiKey, Person, Scope
from access.permissions import require
from access.rights import RIGHTS_OF_ROLE, RIGHTS_OF_SCOPE, Right
from core.clock import now
from core.errors import NotFound, Unprocessable

on_keys_changed: list[Callable[[], object]] = []
"""Called inside the transaction that changed a key: whoever holds keys in memory announces them again."""

_NO_DIGEST = "0" * 64
_NOT_VALID = "This API key is not valid: it is mistyped, expired or revoked. Ask an admin for another one."


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. ``text`` is what its holder sends; it is nowhere else and cannot be shown again."""

    key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.id})"


def create_key(
    *,
    actor: Actor,
    name: str,
    scopes: Iterable[str],
    endpoints: Iterable[str] = (),
    expires_at: datetime | None = None,
    limits: Mapping[str, Any] | None = None,
) -> IssuedKey:
    """Issue a key that may do what ``scopes`` say, on ``endpoints`` (none named: on all), until ``expires_at``, within ``limits``.

    Raises NameNotAllowed, Unprocessable (no scope, an unknown one, or an expiry in the past), Invalid (a wrong limit).
    """
    require(actor, Right.KEY_MANAGE)
    scopes, endpoints = sorted(set(scopes)), sorted(set(endpoints))
    _check(name, scopes, expires_at)
    kept = checked_key_limits(limits or {})
    parts = generate()
    with transaction.atomic():
        key = ApiKey.objects.create(
            id=parts.id,
            name=name,
            secret_digest=secret_digest(parts.secret),
            scopes=scopes,
            endpoints=endpoints,
            owner_id=int(actor.id.removeprefix("person:")) if actor.kind == "person" else None,
            expires_at=expires_at,
            limits=kept,
        )
        expiry = expires_at.isoformat() if expires_at else None
        _record(actor, "create", key, after={"scopes": scopes, "endpoints": endpoints, "expires_at": expiry, "limits": kept})
        _announce()
    return IssuedKey(key, text_of(parts))


def limit_key(*, actor: Actor, key_id: str, limits: Mapping[str, Any], reason: str = "") -> ApiKey:
    """Set the named limits of a key, 0 taking one away; those that are not named stay, also when two people change others at once.

    Limits that stay as they are write nothing. Raises NotFound, Unprocessable (the key is revoked), Invalid (a wrong limit).
    """
    require(actor, Right.KEY_MANAGE)
    with transaction.atomic():
        key = _locked(key_id)
        if key.revoked_at is not None:
            raise Unprocessable(f"The key {key.name} is revoked: it answers nobody any more. Nothing was changed.")
        before, after = key.limits, checked_key_limits({**key.limits, **limits})
        if after != before:
            key.limits = after
            key.save(update_fields=["limits"])
            _record(actor, "limit", key, before={"limits": before}, after={"limits": after}, reason=reason)
            _announce()
    return key


def revoke_key(*, actor: Actor, key_id: str, reason: str = "") -> ApiKey:
    """End a key for good; one that is revoked already is given back as it is. Raises NotFound."""
    require(actor, Right.KEY_MANAGE)
    with transaction.atomic():
        key = _locked(key_id)
        if key.revoked_at is None:
            _revoke(actor, key, reason)
            _announce()
    return key


def revoke_all_of(*, actor: Actor, person: Person) -> int:
    """End every key that ``person`` owns, inside the caller's transaction; gives how many."""
    return _revoke_of(actor, person, f"{person.username} was deactivated")


def revoke_beyond_role_of(*, actor: Actor, person: Person) -> int:
    """End the keys of ``person`` that may do more than the role they have now, inside the caller's transaction; gives how many."""
    rights = RIGHTS_OF_ROLE[person.role]
    return _revoke_of(actor, person, f"{person.username} became {person.role}", keep=lambda key: _rights_of_scopes(key) <= rights)


def end_scope(*, actor: Actor, endpoint: str) -> int:
    """Take an endpoint that is being deleted out of every key, inside the caller's transaction; gives how many keys it was in.

    A key for that endpoint alone is revoked: without endpoints it would be one for all of them.
    """
    keys = list(ApiKey.objects.select_for_update().filter(endpoints__contains=[endpoint], revoked_at=None))
    for key in keys:
        before = key.endpoints
        key.endpoints = [name for name in before if name != endpoint]
        if key.endpoints:
            key.save(update_fields=["endpoints"])
            _record(actor, "limit", key, after={"endpoints": key.endpoints}, reason=f"{endpoint} was deleted")
        else:
            key.endpoints = before
            _revoke(actor, key, f"{endpoint} was deleted")
    if keys:
        _announce()
    return len(keys)


def actor_of_key(text: str, address: str = "") -> Actor:
    """Give the actor of a key; raises KeyNotValid. Digests are compared in constant time. One query."""
    parsed = parse(text)
    key = ApiKey.objects.filter(id=parsed.id).first() if parsed else None
    same = hmac.compare_digest(secret_digest(parsed.secret) if parsed else "", key.secret_digest if key else _NO_DIGEST)
    if key is None or not same or not is_open(key):
        raise KeyNotValid(_NOT_VALID)
    return Actor(kind="key", id=f"key:{key.id}", name=key.name, rights=rights_of(key), address=address)


def is_open(key: ApiKey) -> bool:
    """Tell whether the key is neither revoked nor expired."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now())


def rights_of(key: ApiKey) -> dict[str, frozenset[Right]]:
    """Give the union of its scopes' rights: everywhere, or only on the endpoints it is limited to."""
    subjects = [f"endpoint:{name}" for name in key.endpoints] or [EVERYTHING]
    return dict.fromkeys(subjects, _rights_of_scopes(key))


def _rights_of_scopes(key: ApiKey) -> frozenset[Right]:
    return frozenset[Right]().union(*(RIGHTS_OF_SCOPE[scope] for scope in key.scopes))


def _locked(key_id: str) -> ApiKey:
    key = ApiKey.objects.select_for_update().filter(id=key_id).first()
    if key is None:
        raise NotFound(f"There is no API key {key_id}.")
    return key


def _check(name: str, scopes: list[str], expires_at: datetime | None) -> None:
    if not 1 <= len(name.strip()) <= 100 or not name.isprintable():
        raise NameNotAllowed("A key needs a name of 1 to 100 printable characters that says what uses it.")
    unknown = [scope for scope in scopes if scope not in Scope.values]
    if unknown or not scopes:
        what = f"unknown: {', '.join(unknown)}" if unknown else "none given"
        raise Unprocessable(f"A key needs scopes of {', '.join(Scope.values)} ({what}). Nothing was issued.")
    if expires_at is not None and expires_at <= now():
        raise Unprocessable(f"The expiry {expires_at.isoformat()} is in the past. Nothing was issued.")


def _revoke_of(actor: Actor, person: Person, reason: str, *, keep: Callable[[ApiKey], bool] = lambda _: False) -> int:
    require(actor, Right.PEOPLE_MANAGE)
    ended = [key for key in ApiKey.objects.select_for_update().filter(owner=person, revoked_at=None) if not keep(key)]
    for key in ended:
        _revoke(actor, key, reason)
    if ended:
        _announce()
    return len(ended)


def _revoke(actor: Actor, key: ApiKey, reason: str) -> None:
    key.revoked_at = now()
    key.save(update_fields=["revoked_at"])
    _record(actor, "revoke", key, after={"revoked_at": key.revoked_at.isoformat()}, reason=reason)


def _record(actor: Actor, verb: str, key: ApiKey, *, after: dict[str, object], before: dict[str, object] | None = None, reason: str = "") -> None:
    audit.record(actor=actor, verb=verb, subject_kind="key", subject_name=str(key), before=before, after=after, reason=reason)


def _announce() -> None:
    for announce in on_keys_changed:
        announce()
