"""Edits the words about a model or version: description, tags, metrics. Files and signature never change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from registry.errors import Changed
from registry.find import model_named, version_numbered
from registry.models import Model, Version
from registry.words import checked_description, checked_metrics, checked_tags


def edit_model(*, actor: Actor, model: str, description: str | None = None, tags: Mapping[str, Any] | None = None, revision: int | None = None) -> Model:
    """Change what is not None. ``revision`` is the one the editor saw; raises Changed when it is another by now."""
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    with transaction.atomic():
        row = model_named(model, lock=True)
        if revision is not None and revision != row.revision:
            raise Changed(
                f"Somebody edited {model} meanwhile (revision {row.revision}, not {revision}). Nothing was changed; look again.", revision=row.revision
            )
        changes = _changes(row, description=description, tags=tags)
        if changes:
            row.revision += 1
            row.updated_at = now()
            _apply(actor, row, "model", changes)
    return row


def edit_version(
    *,
    actor: Actor,
    model: str,
    version: int,
    description: str | None = None,
    tags: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Version:
    """Change what is not None; the last editor wins, and the audit log has both. Raises VersionNotFound, NotAllowed."""
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    with transaction.atomic():
        row = version_numbered(model, version, lock=True)
        changes = _changes(row, description=description, tags=tags, metrics=metrics)
        if changes:
            _apply(actor, row, "version", changes)
    return row


def _changes(row: Model | Version, **wanted: Any) -> dict[str, Any]:
    """Give the checked new values that differ from the present ones."""
    check: dict[str, Callable[[Any], Any]] = {"description": checked_description, "tags": checked_tags, "metrics": checked_metrics}
    checked = {name: check[name](value) for name, value in wanted.items() if value is not None}
    return {name: value for name, value in checked.items() if value != getattr(row, name)}


def _apply(actor: Actor, row: Model | Version, kind: str, changes: dict[str, Any]) -> None:
    before = {name: getattr(row, name) for name in changes}
    for name, value in changes.items():
        setattr(row, name, value)
    row.save()
    audit.record(actor=actor, verb="edit", subject_kind=kind, subject_name=str(row), before=before, after=changes)
