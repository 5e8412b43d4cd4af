"""Empty a slot: take its build out, so that the data plane frees its memory."""

from __future__ import annotations

import msgspec
from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import NotFound, Unprocessable
from serving import ledger
from serving.models import Endpoint
from serving.traffic import SlotState


def empty_slot(*, actor: Actor, endpoint: str, slot: str, revision: int | None = None, reason: str = "") -> Endpoint:
    """Take the build out of ``slot``; Unprocessable while it has traffic, Overtaken for a stale ``revision``."""
    require(actor, Right.ENDPOINT_DEPLOY, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        before = ledger.state_of(row)
        held = before.slot(slot)
        if held is None:
            raise NotFound(f"{endpoint} has no slot {slot}: it has {', '.join(other.name for other in before.slots)}.")
        if held.build_id is None:
            raise Unprocessable(f"{slot} of {endpoint} is empty already. Nothing was changed.")
        if held.weight:
            raise Unprocessable(f"{before.title(held)} in {slot} answers {held.weight} % of the traffic. Give its share to another slot first.")
        after = msgspec.structs.replace(before, slots=tuple(SlotState(name=slot) if other.name == slot else other for other in before.slots))
        ledger.apply(row, before, after, actor)
        summary = f"{before.title(held)} taken out of {slot}"
        ledger.record(actor=actor, endpoint=row, verb="empty_slot", summary=summary, before=before, after=after, reason=reason)
    return row
