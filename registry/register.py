"""Registers a version: keeps the bytes, writes the rows, queues the check. The file is never opened here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core import jobs
from core.clock import now
from core.errors import SignalboxError, Unprocessable
from registry import references, steps, storage
from registry.models import Artifact, Model, Version
from registry.storage import Readable, Stored
from registry.words import checked_description, checked_metrics, checked_model_name, checked_tags, shown_filename

CHECK = "registry.tasks.check_version"


def register_version(
    *,
    actor: Actor,
    model_name: str,
    file: Readable,
    filename: str,
    sample: Readable | None = None,
    sample_filename: str = "",
    description: str = "",
    tags: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Version:
    """Register ``file`` as the next version of ``model_name``, which is made on first use; the check begins on commit.

    ``sample`` holds rows like those it was trained on (CSV, JSON or Parquet). Raises NotAllowed, TooLarge,
    StorageFull, Unprocessable (the model is archived, or the file is empty); nothing is kept then.
    """
    require(actor, Right.MODEL_REGISTER, f"model:{model_name}")
    checked_model_name(model_name)
    words = {"description": checked_description(description), "tags": checked_tags(tags), "metrics": checked_metrics(metrics)}
    files: dict[str, _File] = {}
    try:
        files[Artifact.Role.ORIGINAL] = _kept(file, filename)
        if sample is not None:
            files[Artifact.Role.SAMPLE] = _kept(sample, sample_filename)
        return _written(actor, model_name, files, words)
    except SignalboxError:
        references.remove_unused(kept.stored.digest for kept in files.values())
        raise


class _File(NamedTuple):
    source: Readable
    stored: Stored
    name: str


def _kept(source: Readable, filename: str) -> _File:
    name = shown_filename(filename)
    stored = storage.store(source)
    if not stored.size_bytes:
        references.remove_unused([stored.digest])
        raise Unprocessable(f"The file {name} is empty. Nothing was registered.")
    return _File(source, stored, name)


def _written(actor: Actor, model_name: str, files: Mapping[str, _File], words: Mapping[str, Any]) -> Version:
    with transaction.atomic():
        model = _model_with_next_number(actor, model_name)
        received = ", ".join(f"{kept.name} ({kept.stored.size_bytes:,} bytes)" for kept in files.values())
        version = Version.objects.create(model=model, number=model.latest_number, created_by=actor.name, steps=steps.at_first(received), **words)
        references.hold()
        for role, kept in files.items():
            if not storage.exists(kept.stored.digest):
                storage.store(kept.source)
            Artifact.objects.create(version=version, role=role, filename=kept.name, digest=kept.stored.digest, size_bytes=kept.stored.size_bytes)
        digests = {str(role): kept.stored.digest for role, kept in files.items()}
        audit.record(actor=actor, verb="register", subject_kind="version", subject_name=str(version), after=digests)
        jobs.enqueue(kind=CHECK, subject=str(version.id))
    return version


def _model_with_next_number(actor: Actor, name: str) -> Model:
    """Take the next number under the model's row lock: two registrations at once get consecutive numbers."""
    model, made = Model.objects.get_or_create(name=name, defaults={"owner_name": actor.name})
    if made:
        audit.record(actor=actor, verb="create", subject_kind="model", subject_name=name)
    open_models = Model.objects.filter(pk=model.pk, archived_at=None)
    if not open_models.update(latest_number=F("latest_number") + 1, updated_at=now()):
        raise Unprocessable(f"The model {name} is archived. Restore it first, or choose another name. Nothing was registered.")
    model.refresh_from_db()
    return model
