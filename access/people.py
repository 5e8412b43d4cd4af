"""People: their actor, and the verbs that make them, change their role and grants, and lock them out."""

from __future__ import annotations

import re

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q

from access import audit, keys
from access.actors import EVERYTHING, Actor
from access.errors import LastAdmin, NameNotAllowed, NameTaken
from access.models import Grant, Person, Role
from access.permissions import require
from access.rights import RIGHTS_OF_ROLE, Right
from core.errors import Forbidden, NotFound, Unprocessable

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}")


def actor_of(person: Person, address: str = "") -> Actor:
    """Give the actor of ``person``: the rights of the role, and those of each grant on its subject. One query."""
    rights = {EVERYTHING: RIGHTS_OF_ROLE[person.role]}
    for grant in person.grants.all():
        rights[f"{grant.subject_kind}:{grant.subject_name}"] = RIGHTS_OF_ROLE[grant.role]
    return Actor(kind="person", id=f"person:{person.pk}", name=person.username, rights=rights, address=address)


def create_person(*, actor: Actor, username: str, role: str, email: str = "") -> Person:
    """Make somebody who can sign in with a link (``access.sign_in``); a password is theirs to set.

    Raises NameNotAllowed, NameTaken, Unprocessable (no such role).
    """
    require(actor, Right.PEOPLE_MANAGE)
    if not _USERNAME.fullmatch(username):
        raise NameNotAllowed(f"The user name {username!r} is not allowed: use 1 to 100 letters, digits and _.@+- and begin with a letter or digit.")
    person = Person(username=username, role=_known_role(role), email=email)
    person.set_unusable_password()
    try:
        with transaction.atomic():
            person.save()
            audit.record(actor=actor, verb="create", subject_kind="person", subject_name=username, after={"role": role, "email": email})
    except IntegrityError as error:
        if "username" not in str(error):
            raise
        raise NameTaken(f"Somebody is already called {username}. Choose another user name.") from error
    return person


def change_role(*, actor: Actor, username: str, role: str, reason: str = "") -> Person:
    """Give ``username`` another role, and end the keys they own that may do more than it. Raises LastAdmin when nobody would be left to manage people."""
    require(actor, Right.PEOPLE_MANAGE)
    role = _known_role(role)
    with transaction.atomic():
        person = _locked(username)
        if role != Role.ADMIN:
            _refuse_the_last_admin(person)
        before, person.role = person.role, role
        person.save(update_fields=["role"])
        keys.revoke_beyond_role_of(actor=actor, person=person)
        audit.record(
            actor=actor, verb="change_role", subject_kind="person", subject_name=username, before={"role": before}, after={"role": role}, reason=reason
        )
    return person


def change_person(*, actor: Actor, username: str, role: str | None = None, active: bool | None = None, reason: str = "") -> Person:
    """Change role and lock-out together, or neither; what is None stays as it is."""
    require(actor, Right.PEOPLE_MANAGE)
    with transaction.atomic():
        person = _locked(username)
        if role is not None and role != person.role:
            person = change_role(actor=actor, username=username, role=role, reason=reason)
        if active is not None and active != person.is_active:
            person = _set_active(actor, username, active=active, reason=reason)
    return person


def deactivate(*, actor: Actor, username: str, reason: str = "") -> Person:
    """Lock ``username`` out at once: no sign-in, open sessions end, and the keys they own are revoked."""
    return _set_active(actor, username, active=False, reason=reason)


def activate(*, actor: Actor, username: str, reason: str = "") -> Person:
    """Let ``username`` sign in again. Revoked keys stay revoked."""
    return _set_active(actor, username, active=True, reason=reason)


def set_password(*, actor: Actor, password: str) -> Person:
    """Set the actor's own password. Raises Unprocessable with what is weak about it; Forbidden for a key."""
    if actor.kind != "person":
        raise Forbidden("Only a person has a password, and sets it by themselves.")
    with transaction.atomic():
        person = Person.objects.select_for_update().get(pk=int(actor.id.removeprefix("person:")))
        try:
            validate_password(password, person)
        except ValidationError as error:
            raise Unprocessable(f"{' '.join(error.messages)} Nothing was changed.") from error
        person.set_password(password)
        person.save(update_fields=["password"])
        audit.record(actor=actor, verb="set_password", subject_kind="person", subject_name=person.username)
    return person


def add_grant(*, actor: Actor, username: str, subject_kind: str, subject_name: str, role: str) -> Grant:
    """Give ``username`` a role on one model or endpoint; a grant that is there is changed to ``role``."""
    require(actor, Right.PEOPLE_MANAGE)
    if subject_kind not in Grant.SubjectKind.values:
        raise Unprocessable(f"A grant is on a model or an endpoint, not on {subject_kind!r}. Nothing was changed.")
    with transaction.atomic():
        person = _locked(username)
        old = person.grants.filter(subject_kind=subject_kind, subject_name=subject_name).first()
        grant, _ = Grant.objects.update_or_create(person=person, subject_kind=subject_kind, subject_name=subject_name, defaults={"role": _known_role(role)})
        _record_grant(actor, "add_grant", grant, before={"role": old.role} if old else None, after={"role": role})
    return grant


def remove_grant(*, actor: Actor, username: str, subject_kind: str, subject_name: str) -> Person:
    """Take the grant away; what the person's role allows stays. Raises NotFound."""
    require(actor, Right.PEOPLE_MANAGE)
    with transaction.atomic():
        person = _locked(username)
        grant = person.grants.filter(subject_kind=subject_kind, subject_name=subject_name).first()
        if grant is None:
            raise NotFound(f"{username} has no grant on {subject_kind} {subject_name}.")
        _record_grant(actor, "remove_grant", grant, before={"role": grant.role}, after=None)
        grant.delete()
    return person


def end_grants_on(*, actor: Actor, subject_kind: str, subject_name: str) -> int:
    """Take away every grant on what is being deleted, inside the caller's transaction: a later one of that name begins without; gives how many."""
    grants = list(Grant.objects.select_for_update(of=("self",)).filter(subject_kind=subject_kind, subject_name=subject_name).select_related("person"))
    for grant in grants:
        _record_grant(actor, "remove_grant", grant, before={"role": grant.role}, after=None)
        grant.delete()
    return len(grants)


def _known_role(role: str) -> str:
    if role not in Role.values:
        raise Unprocessable(f"There is no role {role!r}; the roles are {', '.join(Role.values)}. Nothing was changed.")
    return role


def _locked(username: str) -> Person:
    # With every admin's row, in one order: so that two admins cannot lock each other out at once.
    rows = Person.objects.select_for_update().filter(Q(username=username) | Q(role=Role.ADMIN)).order_by("pk")
    person = next((row for row in rows if row.username == username), None)
    if person is None:
        raise NotFound(f"There is nobody called {username}.")
    return person


def _refuse_the_last_admin(person: Person) -> None:
    if list(Person.objects.filter(role=Role.ADMIN, is_active=True)) == [person]:
        raise LastAdmin(f"{person.username} is the last admin. Make somebody else an admin first. Nothing was changed.")


def _set_active(actor: Actor, username: str, *, active: bool, reason: str) -> Person:
    require(actor, Right.PEOPLE_MANAGE)
    with transaction.atomic():
        person = _locked(username)
        if not active:
            _refuse_the_last_admin(person)
            keys.revoke_all_of(actor=actor, person=person)
        before, person.is_active = person.is_active, active
        person.save(update_fields=["is_active"])
        audit.record(
            actor=actor,
            verb="activate" if active else "deactivate",
            subject_kind="person",
            subject_name=username,
            before={"active": before},
            after={"active": active},
            reason=reason,
        )
    return person


def _record_grant(actor: Actor, verb: str, grant: Grant, *, before: dict[str, str] | None, after: dict[str, str] | None) -> None:
    where = {"on": f"{grant.subject_kind} {grant.subject_name}"}
    audit.record(
        actor=actor,
        verb=verb,
        subject_kind="person",
        subject_name=grant.person.username,
        before=where | before if before else None,
        after=where | after if after else None,
    )
