"""Load: put an endpoint that was unloaded back into service, with the slots and shares that it has."""

from __future__ import annotations

import msgspec
from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from serving import ledger
from serving.models import Endpoint


def load(*, actor: Actor, endpoint: str, revision: int | None = None, reason: str = "") -> Endpoint:
    """Let ``endpoint`` answer again, once the data plane has its builds warm. One in service stays as it is, and writes nothing.

    Raises Overtaken for a stale ``revision``.
    """
    require(actor, Right.ENDPOINT_LOAD, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        before = ledger.state_of(row)
        if not before.loaded:
            after = msgspec.structs.replace(before, loaded=True)
            ledger.apply(row, before, after, actor)
            summary = f"Loaded: back in service with {after.split_text() or 'no version'}"
            ledger.record(actor=actor, endpoint=row, verb="load", summary=summary, before=before, after=after, reason=reason)
    return row
