"""The audit log: every change of state leaves one row here, in the change's own transaction."""

from __future__ import annotations

from typing import Any

from access.actors import Actor
from access.models import AuditEntry


def record(
    *,
    actor: Actor,
    verb: str,
    subject_kind: str,
    subject_name: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
) -> AuditEntry:
    """Write who did what to what, from and to, and why. ``before`` and ``after`` hold only what changed."""
    return AuditEntry.objects.create(
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name,
        verb=verb,
        subject_kind=subject_kind,
        subject_name=subject_name,
        before=before,
        after=after,
        reason=reason,
        address=actor.address,
    )
