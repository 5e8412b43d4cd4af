"""Checks a version again: after an interruption, or when a later release can convert more."""

from __future__ import annotations

from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core import jobs
from registry import steps
from registry.errors import NotReady
from registry.find import version_numbered
from registry.models import Artifact, Version
from registry.register import CHECK


def recheck_version(*, actor: Actor, model: str, version: int) -> Version:
    """Begin the check anew. Raises NotReady while one runs, and for a version that is ready and has a build."""
    require(actor, Right.MODEL_REGISTER, f"model:{model}")
    with transaction.atomic():
        row = version_numbered(model, version, lock=True)
        if row.state == Version.State.CHECKING:
            raise NotReady(f"{row} is being checked already. Its page shows how far it is.")
        if row.state == Version.State.READY and row.builds.exists():
            raise NotReady(f"{row} is ready and frozen. Register the file again for another version.")
        before = {"state": row.state, "refusal": row.refusal or row.not_servable_reason}
        files = row.artifacts.exclude(role=Artifact.Role.REFERENCE).order_by("role")
        row.state = Version.State.CHECKING
        row.refusal = row.not_servable_reason = ""
        row.ready_at = None
        row.steps = steps.at_first(", ".join(f"{file.filename} ({file.size_bytes:,} bytes)" for file in files))
        row.save()
        audit.record(actor=actor, verb="recheck", subject_kind="version", subject_name=str(row), before=before, after={"state": row.state})
        jobs.enqueue(kind=CHECK, subject=str(row.id))
    return row
