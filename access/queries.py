"""Reads of people, keys and the audit log, for pages and the REST API; each says how many SQL queries it takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from access.models import ApiKey, AuditEntry, Person
from core.clock import now
from core.errors import Invalid, NotFound
from core.paging import ROWS, Page, Sorts, page_of

PEOPLE_SORTS = Sorts("name", {"name": ["username"], "signed_in": ["seen_at", "id"]})
KEY_SORTS = Sorts("-created", {"name": ["name", "id"], "created": ["created_at", "id"]})
KEY_STATES = ("open", "expired", "revoked")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """What of the audit log is wanted; an empty field filters nothing."""

    actor: str = ""
    verb: str = ""
    subject_kind: str = ""
    subject_name: str = ""
    q: str = ""
    since: datetime | None = None
    until: datetime | None = None


def people_page(*, q: str = "", sort: str = "", cursor: str | None = None, limit: int = ROWS) -> Page[Person]:
    """Give people by user name unless ``sort`` says otherwise, each with the grants. Two queries."""
    people = Person.objects.prefetch_related("grants")
    if q:
        people = people.filter(Q(username__icontains=q) | Q(email__icontains=q))
    return page_of(people, order=PEOPLE_SORTS.order(sort), cursor=cursor, limit=limit)


def person_named(username: str) -> Person:
    """Give one person with the grants; raises NotFound. Two queries."""
    person = Person.objects.prefetch_related("grants").filter(username=username).first()
    if person is None:
        raise NotFound(f"There is nobody called {username}.")
    return person


def keys_page(*, q: str = "", state: str = "", sort: str = "", cursor: str | None = None, limit: int = ROWS) -> Page[ApiKey]:
    """Give keys, newest first unless ``sort`` says otherwise, each with its owner. One query."""
    keys = ApiKey.objects.select_related("owner")
    if q:
        keys = keys.filter(Q(name__icontains=q) | Q(id__startswith=q))
    if state:
        keys = keys.filter(_in_state(state))
    return page_of(keys, order=KEY_SORTS.order(sort), cursor=cursor, limit=limit)


def key_with_id(key_id: str) -> ApiKey:
    """Give one key with its owner; raises NotFound. One query."""
    key = ApiKey.objects.select_related("owner").filter(id=key_id).first()
    if key is None:
        raise NotFound(f"There is no API key {key_id}.")
    return key


def state_of(key: ApiKey) -> str:
    """Give ``open``, ``expired`` or ``revoked``."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now() else "open"


def audit_page(wanted: AuditFilter | None = None, *, cursor: str | None = None, limit: int = ROWS) -> Page[AuditEntry]:
    """Give the audit log, newest first. One query."""
    wanted = wanted or AuditFilter()
    exact = {"actor_name": wanted.actor, "verb": wanted.verb, "subject_kind": wanted.subject_kind, "subject_name": wanted.subject_name}
    entries = AuditEntry.objects.filter(**{field: value for field, value in exact.items() if value})
    if wanted.q:
        entries = entries.filter(Q(subject_name__icontains=wanted.q) | Q(actor_name__icontains=wanted.q) | Q(reason__icontains=wanted.q))
    if wanted.since:
        entries = entries.filter(at__gte=wanted.since)
    if wanted.until:
        entries = entries.filter(at__lt=wanted.until)
    return page_of(entries, order=["-id"], cursor=cursor, limit=limit)


def _in_state(state: str) -> Q:
    expired = Q(expires_at__lte=now())
    match state:
        case "revoked":
            return Q(revoked_at__isnull=False)
        case "expired":
            return Q(revoked_at=None) & expired
        case "open":
            return Q(revoked_at=None) & ~(Q(expires_at__isnull=False) & expired)
    raise Invalid(f"There is no key state {state[:40]!r}; the states are {', '.join(KEY_STATES)}.")
