"""Roll back: apply an earlier state of the ledger. The fastest verb; no check ever stands in its way."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import msgspec
from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import NotFound, Unprocessable
from registry.models import Build
from serving import ledger
from serving.errors import NothingEarlier
from serving.history import Past, target_of_roll_back
from serving.models import Endpoint, LedgerEntry
from serving.traffic import RoutingState, SlotState

# Ledger rows that are read; further back than that a roll back names its revision.
DEPTH = 500


def roll_back(*, actor: Actor, endpoint: str, to_revision: int | None = None, revision: int | None = None, reason: str = "") -> Endpoint:
    """Apply the state after ``to_revision``, by default the latest, not undone, in which one other build answered everything.

    Slots that were refilled get their earlier builds back; an endpoint that was unloaded is in service again. Raises NothingEarlier where there is no
    such state, Overtaken only if ``revision`` is given and stale.
    """
    require(actor, Right.ENDPOINT_ROLL_BACK, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        before = ledger.state_of(row)
        past = _named(row, to_revision) if to_revision is not None else target(row, before, lock=True)
        if past is None:
            load = "" if before.loaded else f" To put what it has back into service: signalbox load {endpoint}"
            raise NothingEarlier(
                f"{endpoint} has no earlier state to roll back to: before what answers now no other version had all of its traffic. Nothing was changed.{load}"
            )
        after = _restored(before, past.state, _existing([past]))
        ledger.apply(row, before, after, actor)
        summary = f"Rolled back to {_text(after)}" + ("" if before.loaded else "; back in service")
        ledger.record(actor=actor, endpoint=row, verb="roll_back", summary=summary, before=before, after=after, reason=reason, restores=past.revision)
    return row


def target(endpoint: Endpoint, state: RoutingState, *, lock: bool = False) -> Past | None:
    """Give the ledger row that a roll back would apply now, or None. Two queries; ``lock`` keeps the builds from being deleted."""
    rows = LedgerEntry.objects.filter(endpoint=endpoint).order_by("-revision").values_list("revision", "after", "restores")[:DEPTH]
    pasts = [Past(revision=revision, state=ledger.as_state(after), restores=restores) for revision, after, restores in rows]
    pasts.reverse()
    return target_of_roll_back(pasts, state, _existing(pasts, lock=lock).__contains__)


def _named(endpoint: Endpoint, revision: int) -> Past:
    entry = LedgerEntry.objects.filter(endpoint=endpoint, revision=revision).first()
    if entry is None:
        raise NotFound(f"{endpoint.name} has no revision {revision} in its ledger. The ledger lists those that exist.")
    past = Past(revision=revision, state=ledger.as_state(entry.after))
    existing = _existing([past], lock=True)
    gone = [slot for slot in past.state.slots if slot.weight and slot.build_id not in existing]
    if not past.state.answering or gone:
        why = f"{past.state.title(gone[0])} was deleted" if gone else "nothing answered then"
        raise Unprocessable(f"Revision {revision} of {endpoint.name} cannot be applied: {why}. Nothing was changed.")
    return past


def _existing(pasts: list[Past], *, lock: bool = False) -> AbstractSet[str]:
    wanted = {slot.build_id for past in pasts for slot in past.state.slots if slot.build_id}
    builds = Build.objects.filter(id__in=wanted).order_by("id")  # in one order, so that two roll backs never wait for each other
    if lock:
        builds = builds.select_for_update(no_key=True)
    return {str(found) for found in builds.values_list("id", flat=True)}


def _restored(before: RoutingState, past: RoutingState, existing: AbstractSet[str]) -> RoutingState:
    """The past state; a warm build deleted since leaves its slot empty, slots made since keep their build without traffic."""
    slots = {slot.name: msgspec.structs.replace(slot, weight=0) for slot in before.slots}
    for slot in past.slots:
        slots[slot.name] = slot if slot.build_id in existing else SlotState(name=slot.name)
    return RoutingState(live_slot=past.live_slot, slots=tuple(slots[name] for name in sorted(slots)))


def _text(state: RoutingState) -> str:
    live = state.slot(state.live_slot)
    if state.is_steady and live:
        return f"{state.title(live)} in {live.name} with 100 %"
    return state.split_text()
