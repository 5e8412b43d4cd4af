"""Delete an endpoint: its address stops to answer. The audit log keeps what it was."""

from __future__ import annotations

import msgspec
from django.db import transaction

from access import audit
from access.actors import Actor
from access.keys import end_scope
from access.people import end_grants_on
from access.permissions import require
from access.rights import Right
from core.clock import now
from serving import ledger, routes, seal


def delete_endpoint(*, actor: Actor, endpoint: str, revision: int, reason: str = "") -> None:
    """Delete the endpoint with its slots, its ledger, the grants on it, and its place in API keys.

    What was logged and measured stays until its retention ends, sealed under another name: an endpoint that
    is made under the same name begins empty. Raises Overtaken for a stale ``revision``.
    """
    require(actor, Right.ENDPOINT_DELETE, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        state = msgspec.to_builtins(ledger.state_of(row))
        end_grants_on(actor=actor, subject_kind="endpoint", subject_name=endpoint)
        end_scope(actor=actor, endpoint=endpoint)
        seal.seal_later(row, now())
        row.delete()
        audit.record(actor=actor, verb="delete", subject_kind="endpoint", subject_name=endpoint, before=state, after=None, reason=reason)
        routes.publish()
