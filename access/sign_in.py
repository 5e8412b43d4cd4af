"""Sign-in links: one person, once, within 15 minutes. Only the token's digest is kept."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet

from access import audit
from access.actors import Actor, system
from access.errors import LinkNotValid
from access.models import Person, SignInLink
from access.permissions import require
from access.rights import Right
from core.clock import now
from core.digests import digest_of
from core.errors import NotFound

LIFETIME = timedelta(minutes=15)
LINK_ROUTE = "sign-in/<str:token>/"
"""Where the console takes a link, as Django writes an address."""
_NEW_ONE = "Ask an admin for a new one, or run “signalbox sign-in” on the machine that Signalbox runs on."


def create_link(person: Person) -> str:
    """Make a link for ``person`` and give its token; for whoever holds the machine (the command line, tests)."""
    token = secrets.token_urlsafe(32)
    SignInLink.objects.filter(expires_at__lt=now() - LIFETIME).delete()
    SignInLink.objects.create(digest=digest_of(token.encode()), person=person, expires_at=now() + LIFETIME)
    return token


def link_path(token: str) -> str:
    """Give the path that signs in with ``token``. Unlike Django's ``reverse`` it imports no page."""
    return "/" + LINK_ROUTE.replace("<str:token>", token)


def invite(*, actor: Actor, username: str) -> str:
    """Make a link for ``username`` and give its token, which the admin passes on. Raises NotFound."""
    require(actor, Right.PEOPLE_MANAGE)
    person = Person.objects.filter(username=username, is_active=True).first()
    if person is None:
        raise NotFound(f"There is nobody called {username} who may sign in.")
    with transaction.atomic():
        token = create_link(person)
        audit.record(actor=actor, verb="invite", subject_kind="person", subject_name=username)
    return token


def use_link(token: str, address: str = "") -> Person:
    """Spend the link and give its person; raises LinkNotValid. Of two uses at once one wins."""
    link = _link(token)
    with transaction.atomic():
        # No join in this update: Django would make it a subquery, which both of two uses at once pass.
        spent = link.filter(used_at=None, expires_at__gt=now()).update(used_at=now())
        person = link.select_related("person").get().person if spent else None
        if person is None or not person.is_active:
            raise _not_valid(token)
        by = system("sign-in")
        audit.record(actor=Actor(kind="system", id=by.id, name=by.name, address=address), verb="sign_in", subject_kind="person", subject_name=person.username)
    return person


def check_link(token: str) -> None:
    """Raise LinkNotValid, which says why, if the link signs nobody in; it is not spent. One query."""
    if not _link(token).filter(used_at=None, expires_at__gt=now(), person__is_active=True).exists():
        raise _not_valid(token)


def _link(token: str) -> QuerySet[SignInLink]:
    return SignInLink.objects.filter(digest=digest_of(token.encode(errors="replace")))


def _not_valid(token: str) -> LinkNotValid:
    link = _link(token).select_related("person").first()
    if link is not None and not link.person.is_active:
        return LinkNotValid("This sign-in link is for somebody who may not sign in any more. Ask an admin.")
    if link is not None and link.used_at is not None:
        return LinkNotValid(f"This sign-in link was used at {link.used_at:%H:%M:%S} UTC, and each works once. {_NEW_ONE}")
    return LinkNotValid(f"This sign-in link is not valid: it is older than 15 minutes, or there never was such a link. {_NEW_ONE}")
