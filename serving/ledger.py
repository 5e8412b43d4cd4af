"""One change of an endpoint: lock it, compare the revision, write the slots, the ledger, the audit row and the routes.

Every verb of serving goes through here, so none can forget a part. ``LedgerEntry`` is append-only.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from access import audit
from access.actors import Actor
from core.clock import now
from core.errors import NotFound
from serving import routes
from serving.errors import Overtaken
from serving.models import Endpoint, LedgerEntry, Slot
from serving.traffic import RoutingState, SlotState

EMPTY = RoutingState(live_slot="", slots=())


def lock(name: str, revision: int | None) -> Endpoint:
    """Lock the endpoint until the transaction ends; Overtaken if ``revision`` is given and no longer the present one."""
    endpoint = Endpoint.objects.select_for_update().filter(name=name).first()
    if endpoint is None:
        raise NotFound(f"There is no endpoint {name}. `signalbox endpoints` lists those that exist.")
    if revision is not None and endpoint.revision != revision:
        raise _overtaken(endpoint, revision)
    return endpoint


def state_of(endpoint: Endpoint) -> RoutingState:
    """Read the present routing state, in one query."""
    slots = endpoint.slots.select_related("build__version__model").order_by("name")
    return RoutingState(live_slot=endpoint.live_slot, slots=tuple(slot_state(slot) for slot in slots), loaded=endpoint.unloaded_at is None)


def slot_state(slot: Slot) -> SlotState:
    """Give the slot as a value; ``build__version__model`` must be joined."""
    if slot.build is None:
        return SlotState(name=slot.name)
    version = slot.build.version
    return SlotState(
        name=slot.name,
        build_id=str(slot.build_id),
        model=version.model.name,
        version=version.number,
        build_kind=slot.build.kind,
        weight=slot.weight,
        shadow=slot.shadow,
    )


def as_state(document: Any) -> RoutingState:
    """Decode what a ledger row keeps in ``before`` or ``after``."""
    return msgspec.convert(document, RoutingState)


def apply(endpoint: Endpoint, before: RoutingState, after: RoutingState, actor: Actor) -> None:
    """Make the endpoint and its slots what ``after`` says; who put a build in and when is kept where the build stays."""
    for slot in after.slots:
        old = before.slot(slot.name)
        if slot == old:
            continue
        values: dict[str, Any] = {"build_id": slot.build_id, "weight": slot.weight, "shadow": slot.shadow}
        if old is None or old.build_id != slot.build_id:
            filled = slot.build_id is not None
            values |= {"deployed_at": now() if filled else None, "deployed_by": actor.name if filled else ""}
        Slot.objects.update_or_create(endpoint=endpoint, name=slot.name, defaults=values)
    endpoint.live_slot = after.live_slot
    if after.loaded:
        endpoint.unloaded_at, endpoint.unloaded_by, endpoint.unload_reason = None, "", ""


def record(
    *,
    actor: Actor,
    endpoint: Endpoint,
    verb: str,
    summary: str,
    before: RoutingState,
    after: RoutingState,
    reason: str = "",
    restores: int | None = None,
    settings: tuple[dict[str, Any], dict[str, Any]] | None = None,
) -> LedgerEntry:
    """Raise the revision, publish the routes, and write the ledger row and the audit row. The endpoint must be locked or new.

    ``settings``, before and after, is what the audit log shows of a change that moves no traffic.
    """
    if before is not EMPTY:
        endpoint.revision += 1
    endpoint.updated_at = now()
    endpoint.save()
    was, becomes = msgspec.to_builtins(before), msgspec.to_builtins(after)
    shown = settings or (was, becomes)
    audit.record(actor=actor, verb=verb, subject_kind="endpoint", subject_name=endpoint.name, before=shown[0], after=shown[1], reason=reason)
    return LedgerEntry.objects.create(
        endpoint=endpoint,
        revision=endpoint.revision,
        verb=verb,
        summary=summary[:500],
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name,
        reason=reason,
        before=was,
        after=becomes,
        restores=restores,
        table_revision=routes.publish(),
    )


def _overtaken(endpoint: Endpoint, revision: int) -> Overtaken:
    latest = LedgerEntry.objects.filter(endpoint=endpoint).order_by("-revision").first()
    said = f"{latest.actor_name} changed it at {_clock(latest.at)}: {latest.summary}." if latest else "It was made anew."
    return Overtaken(
        f"{endpoint.name} was changed while you looked at it. {said} Nothing was overwritten; look at it again, at revision {endpoint.revision}.",
        revision=endpoint.revision,
        seen_revision=revision,
        summary=latest.summary if latest else "",
        by=latest.actor_name if latest else "",
    )


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
