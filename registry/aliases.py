"""Aliases: labels on versions, moved by compare-and-set. An alias routes nothing."""

from __future__ import annotations

from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from registry.errors import Changed, NotReady
from registry.find import alias_named, model_named, version_numbered
from registry.models import Alias, Model, Version
from registry.words import checked_alias


def set_alias(*, actor: Actor, model: str, alias: str, version: int, seen: int | None = None) -> Alias:
    """Put ``alias`` on ``version``. ``seen`` is the version it was seen on (0: on none); None does not check.

    Raises NotAllowed, VersionNotFound, NotReady (refused or archived), Changed when it is elsewhere by now.
    """
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    checked_alias(alias)
    with transaction.atomic():
        row = model_named(model, lock=True)
        target = version_numbered(model, version, lock=True)
        if target.state == Version.State.REFUSED or target.archived_at:
            raise NotReady(
                f"{target} was {'archived' if target.archived_at else 'refused'}; an alias can only be on a version that can be used. Nothing was changed."
            )
        before = _number_under(row, alias, seen)
        changed, _ = Alias.objects.update_or_create(model=row, name=alias, defaults={"version": target, "updated_at": now()})
        _record(actor, "set_alias", row, alias, before, version)
    return changed


def remove_alias(*, actor: Actor, model: str, alias: str, seen: int | None = None) -> Model:
    """Take ``alias`` off; the version stays. Raises AliasNotFound, Changed."""
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    with transaction.atomic():
        row = model_named(model, lock=True)
        found = alias_named(row, alias)
        before = _number_under(row, alias, seen)
        found.delete()
        _record(actor, "remove_alias", row, alias, before, 0)
    return row


def _number_under(model: Model, alias: str, seen: int | None) -> int:
    """Give the number the alias is on, 0 for none; the model's row is locked, so nobody moves it meanwhile."""
    number = Alias.objects.filter(model=model, name=alias).values_list("version__number", flat=True).first() or 0
    if seen is not None and seen != number:
        where = f"on version {number}" if number else "on no version"
        raise Changed(f"Somebody moved the alias {alias}: it is {where} now. Nothing was changed; look again and repeat.", version=number)
    return number


def _record(actor: Actor, verb: str, model: Model, alias: str, before: int, after: int) -> None:
    audit.record(
        actor=actor,
        verb=verb,
        subject_kind="model",
        subject_name=model.name,
        before={"alias": alias, "version": before or None},
        after={"alias": alias, "version": after or None},
    )
