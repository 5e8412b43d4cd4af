"""Promote: all traffic to the candidate at once, the blue-green switch. The replaced build stays warm."""

from __future__ import annotations

from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import Unprocessable
from serving import ledger
from serving.models import Endpoint
from serving.traffic import PERCENT, RoutingState, SlotState, with_weights


def promote(*, actor: Actor, endpoint: str, slot: str | None = None, revision: int, reason: str = "") -> Endpoint:
    """Give ``slot`` 100 % and make it live; without one, the candidate: the filled slot that is not live.

    Raises Unprocessable where there is no candidate or several, Overtaken for a stale ``revision``.
    """
    require(actor, Right.ENDPOINT_PROMOTE, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        before = ledger.state_of(row)
        chosen = _named(before, slot) if slot else candidate(before)
        after = with_weights(before, {chosen.name: PERCENT})
        ledger.apply(row, before, after, actor)
        ledger.record(actor=actor, endpoint=row, verb="promote", summary=_summary(before, chosen), before=before, after=after, reason=reason)
    return row


def candidate(state: RoutingState) -> SlotState:
    """Give the slot that a promotion without a name means; Unprocessable if that is none or not clear."""
    others = [slot for slot in state.slots if slot.build_id and slot.name != state.live_slot]
    others = [slot for slot in others if slot.weight] or others
    if not others:
        raise Unprocessable("There is no candidate: no slot but the live one holds a version. Deploy one first.")
    if len(others) > 1:
        raise Unprocessable(f"There are several candidates: {', '.join(slot.name for slot in others)}. Name the slot to promote.")
    return others[0]


def _named(state: RoutingState, name: str) -> SlotState:
    slot = state.slot(name)
    if slot is None:
        raise Unprocessable(f"There is no slot {name}: the slots are {', '.join(other.name for other in state.slots)}. Nothing was changed.", slot=name)
    if slot.build_id is None:
        raise Unprocessable(f"{name} is empty and cannot answer. Deploy a version to it first. Nothing was changed.", slot=name)
    if slot.weight == PERCENT:
        raise Unprocessable(f"{state.title(slot)} in {name} has 100 % already. Nothing was changed.", slot=name)
    return slot


def _summary(before: RoutingState, chosen: SlotState) -> str:
    said = f"{before.title(chosen)} promoted to 100 %"
    live = before.slot(before.live_slot)
    if live and live.build_id and live.name != chosen.name:
        said += f"; {before.title(live)} stays warm in {live.name}"
    return said
