"""Delete an endpoint: its address stops to answer. The audit log keeps what it was."""

from __future__ import annotations

import msgspec
from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from serving import ledger, routes


def delete_endpoint(*, actor: Actor, endpoint: str, revision: int, reason: str = "") -> None:
    """Delete the endpoint with its slots and its ledger; logged predictions stay until their retention ends.

    Raises Overtaken for a stale ``revision``.
    """
    require(actor, Right.ENDPOINT_DELETE, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        state = msgspec.to_builtins(ledger.state_of(row))
        row.delete()
        audit.record(actor=actor, verb="delete", subject_kind="endpoint", subject_name=endpoint, before=state, after=None, reason=reason)
        routes.publish()
