"""Edits the words about a model or version: description, tags, metrics. Files and signature never change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import shorten
from typing import Any

from django.db import transaction

from access import audit
from access.actors import Actor
from access.models import AuditEntry
from access.permissions import require
from access.rights import Right
from core.clock import now
from registry.errors import Changed
from registry.find import model_named, version_numbered
from registry.models import Model, Version
from registry.words import checked_description, checked_metrics, checked_tags

_LONGEST_SHOWN = 120


def edit_model(*, actor: Actor, model: str, description: str | None = None, tags: Mapping[str, Any] | None = None, revision: int | None = None) -> Model:
    """Change what is not None. ``revision`` is the one the editor saw; raises Changed when it is another by now."""
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    with transaction.atomic():
        row = model_named(model, lock=True)
        _edit(actor, row, "model", revision, description=description, tags=tags)
    return row


def edit_version(
    *,
    actor: Actor,
    model: str,
    version: int,
    description: str | None = None,
    tags: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    revision: int | None = None,
) -> Version:
    """Change what is not None. ``revision`` is the one the editor saw. Raises VersionNotFound, NotAllowed, Changed when it is another by now."""
    require(actor, Right.MODEL_EDIT, f"model:{model}")
    with transaction.atomic():
        row = version_numbered(model, version, lock=True)
        _edit(actor, row, "version", revision, description=description, tags=tags, metrics=metrics)
    return row


def _edit(actor: Actor, row: Model | Version, kind: str, revision: int | None, **wanted: Any) -> None:
    if revision is not None and revision != row.revision:
        raise _changed(row, kind, revision)
    changes = _changes(row, **wanted)
    if not changes:
        return
    before = {name: getattr(row, name) for name in changes}
    for name, value in changes.items():
        setattr(row, name, value)
    row.revision += 1
    if isinstance(row, Model):
        row.updated_at = now()
    row.save()
    audit.record(actor=actor, verb="edit", subject_kind=kind, subject_name=str(row), before=before, after=changes)


def _changes(row: Model | Version, **wanted: Any) -> dict[str, Any]:
    """Give the checked new values that differ from the present ones."""
    check: dict[str, Callable[[Any], Any]] = {"description": checked_description, "tags": checked_tags, "metrics": checked_metrics}
    checked = {name: check[name](value) for name, value in wanted.items() if value is not None}
    return {name: value for name, value in checked.items() if value != getattr(row, name)}


def _changed(row: Model | Version, kind: str, seen: int) -> Changed:
    """Say what the other did, from the audit log."""
    latest = AuditEntry.objects.filter(subject_kind=kind, subject_name=str(row), verb="edit").order_by("-id").first()
    by, after = (latest.actor_name, latest.after or {}) if latest else ("somebody", {})
    what = "; ".join(f"{name} to {_shown(value)}" for name, value in sorted(after.items()))
    said = f" {by} set {what}." if what else ""
    return Changed(
        f"{row} was edited while you looked at it.{said} Nothing was overwritten; look at it again, at revision {row.revision}.",
        revision=row.revision,
        seen_revision=seen,
        by=by,
        after=after,
    )


def _shown(value: Any) -> str:
    text = ", ".join(f"{name} = {inner}" for name, inner in value.items()) if isinstance(value, dict) else f"“{value}”" if value else ""
    return shorten(text, _LONGEST_SHOWN, placeholder=" …") or "nothing"
