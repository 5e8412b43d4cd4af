"""Archives models and versions: out of the lists and not deployable, but kept whole; and brings them back."""

from __future__ import annotations

from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from registry.delete import refuse_if_held
from registry.find import model_named, version_numbered
from registry.models import Model, Version


def archive_model(*, actor: Actor, model: str, archived: bool = True, reason: str = "") -> Model:
    """Archive the model, or with ``archived=False`` restore it. What serves goes on serving."""
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    with transaction.atomic():
        row = model_named(model, lock=True)
        _mark(actor, row, "model", archived=archived, reason=reason)
    return row


def archive_version(*, actor: Actor, model: str, version: int, archived: bool = True, reason: str = "") -> Version:
    """Archive the version, or with ``archived=False`` restore it. Raises InUse while an alias or a slot has it."""
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    with transaction.atomic():
        row = version_numbered(model, version, lock=True)
        list(row.builds.select_for_update())
        if archived:
            refuse_if_held(row, "archived")
        _mark(actor, row, "version", archived=archived, reason=reason)
    return row


def _mark(actor: Actor, row: Model | Version, kind: str, *, archived: bool, reason: str) -> None:
    if archived == (row.archived_at is not None):
        return
    row.archived_at = now() if archived else None
    row.save(update_fields=["archived_at"])
    audit.record(actor=actor, verb="archive" if archived else "restore", subject_kind=kind, subject_name=str(row), reason=reason)
