"""Unload: take an endpoint out of service. Its builds leave the data plane's memory, and its callers get 503 that says who did it."""

from __future__ import annotations

import msgspec
from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from serving import ledger
from serving.models import Endpoint


def unload(*, actor: Actor, endpoint: str, revision: int | None = None, reason: str = "") -> Endpoint:
    """Let ``endpoint`` answer nothing until it is loaded or rolled back; slots and shares stay. One out of service stays as it is.

    Raises Overtaken for a stale ``revision``.
    """
    require(actor, Right.ENDPOINT_LOAD, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        before = ledger.state_of(row)
        if before.loaded:
            after = msgspec.structs.replace(before, loaded=False)
            row.unloaded_at, row.unloaded_by, row.unload_reason = now(), actor.name, reason
            ledger.apply(row, before, after, actor)
            summary = "Unloaded: out of service, its callers get 503"
            ledger.record(actor=actor, endpoint=row, verb="unload", summary=summary, before=before, after=after, reason=reason)
    return row
