"""Deploy a version: put a build into a slot, where the data plane loads and warms it before any request meets it."""

from __future__ import annotations

import re
from operator import attrgetter

import msgspec
from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from core.errors import Invalid, NotFound, Unprocessable
from registry.models import Build, Version
from serving import ledger, routes
from serving.compatibility import differences
from serving.errors import Incompatible
from serving.models import Endpoint
from serving.queries.system import refused_builds
from serving.traffic import PERCENT, RoutingState, SlotState

_DIFFERENCES_NAMED = 6
MOST_SLOTS = 8
_SLOT_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def deploy(
    *,
    actor: Actor,
    endpoint: str,
    model: str,
    version: int,
    build_kind: str = "onnx",
    slot: str | None = None,
    revision: int | None = None,
    reason: str = "",
) -> Endpoint:
    """Put the build into ``slot``, by default the first without a build, else one without traffic.

    The first deployment gets all traffic and is live; later ones get none until a split or a
    promotion. Raises Incompatible for other columns than the live version's, Unprocessable for a slot
    with traffic or a version that is not ready, Overtaken for a stale ``revision``. A build that the
    data plane refuses to run stays in its slot, with its traffic, and is tried again.
    """
    require(actor, Right.ENDPOINT_DEPLOY, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        before = ledger.state_of(row)
        build = _build(model, version, build_kind)
        refused = _refused_slot(before, build, slot)
        if refused:
            return _again(row, before, refused, actor, reason)
        target = _target(row, before, build, slot)
        _check_columns(row, before, build)
        after = _with_build(before, target, build)
        ledger.apply(row, before, after, actor)
        ledger.record(actor=actor, endpoint=row, verb="deploy", summary=_summary(after, target), before=before, after=after, reason=reason)
    return row


def _build(model: str, number: int, kind: str) -> Build:
    version = Version.objects.select_related("model").filter(model__name=model, number=number).first()
    if version is None:
        raise NotFound(f"There is no version {number} of a model {model}. Look at the model's page for its versions.")
    if version.archived_at or version.model.archived_at:
        raise Unprocessable(f"{model} v{number} is archived. Restore it first, or deploy another version.")
    if version.state != Version.State.READY:
        why = version.refusal or "Its checks still run; look at its page."
        raise Unprocessable(f"{model} v{number} is {version.state}, not ready. {why}")
    # Locked, so that it cannot be deleted between this check and the commit.
    build = Build.objects.select_for_update(of=("self",)).select_related("version__model").filter(version=version, kind=kind).first()
    if build is None:
        why = version.not_servable_reason or "Its builds are on its page."
        raise Unprocessable(f"{model} v{number} has no {kind} build. {why}")
    return build


def _refused_slot(state: RoutingState, build: Build, wanted: str | None) -> str:
    """Give the slot in which the build was taken out of service, if it was."""
    holding = next((slot.name for slot in state.slots if slot.build_id == str(build.id) and wanted in {None, slot.name}), "")
    return holding if holding and build.digest in (refused_builds() or {}) else ""


def _again(endpoint: Endpoint, state: RoutingState, slot: str, actor: Actor, reason: str) -> Endpoint:
    """Deploy what is in the slot anew: the data plane tries what was refused before then."""
    endpoint.slots.filter(name=slot).update(deployed_at=now(), deployed_by=actor.name)
    held = state.slot(slot)
    title = state.title(held) if held else slot
    ledger.record(actor=actor, endpoint=endpoint, verb="deploy", summary=f"{title} in {slot} tried again", before=state, after=state, reason=reason)
    return endpoint


def _target(endpoint: Endpoint, state: RoutingState, build: Build, wanted: str | None) -> str:
    """Choose the slot, or check the wanted one."""
    holding = next((slot for slot in state.slots if slot.build_id == str(build.id) and wanted in {None, slot.name}), None)
    if holding:
        raise Unprocessable(
            f"{state.title(holding)} is in {holding.name} already, with {holding.weight} % of the traffic. Nothing was changed. "
            "Split or promote to give it more."
        )
    if wanted is not None:
        return _checked_slot(state, wanted)
    empty = next((slot.name for slot in state.slots if slot.build_id is None), None)
    if empty:
        return empty
    idle = {slot.name for slot in state.slots if not slot.weight}
    rows = [row for row in endpoint.slots.all() if row.name in idle and row.deployed_at]
    if not rows:
        raise Unprocessable(f"Every slot of {endpoint.name} has traffic: {state.split_text()}. Promote one of them or roll back, then deploy.")
    return min(rows, key=attrgetter("deployed_at", "name")).name


def _checked_slot(state: RoutingState, wanted: str) -> str:
    known = state.slot(wanted)
    if known and known.weight:
        raise Unprocessable(
            f"{state.title(known)} in {wanted} answers {known.weight} % of the traffic. Deploy into another slot, or take its traffic away first."
        )
    if known is None and not _SLOT_NAME.fullmatch(wanted):
        raise Invalid(f"The slot name {wanted!r} is wrong: use up to 32 lower-case letters, digits and dashes, a letter first.", field="slot")
    if known is None and len(state.slots) >= MOST_SLOTS:
        raise Unprocessable(f"There are {MOST_SLOTS} slots already, the most that an endpoint has. Deploy into one of them.")
    return wanted


def _shortened(found: list[str]) -> str:
    more = len(found) - _DIFFERENCES_NAMED
    return "; ".join(found[:_DIFFERENCES_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _check_columns(endpoint: Endpoint, state: RoutingState, build: Build) -> None:
    live = state.slot(state.live_slot)
    if live is None or live.build_id is None or not live.weight:
        return
    present = Build.objects.select_related("version__model").get(id=live.build_id)
    found = differences(routes.signature_of(present), routes.signature_of(build))
    if found:
        raise Incompatible(
            f"{build.version} does not take or give the same columns as {present.version}, which is live at {endpoint.name}: {_shortened(found)}. "
            "Callers would fail. Register a version with the same columns, or create another endpoint.",
            differences=found,
        )


def _with_build(state: RoutingState, target: str, build: Build) -> RoutingState:
    first = not state.answering
    filled = SlotState(
        name=target,
        build_id=str(build.id),
        model=build.version.model.name,
        version=build.version.number,
        build_kind=build.kind,
        weight=PERCENT if first else 0,
    )
    others = [slot for slot in state.slots if slot.name != target]
    slots = tuple(sorted([*others, filled], key=attrgetter("name")))
    return msgspec.structs.replace(state, slots=slots, live_slot=target if first else state.live_slot)


def _summary(state: RoutingState, target: str) -> str:
    slot = state.slot(target)
    if slot is None:  # _with_build has just put it there
        raise KeyError(target)
    return f"{state.title(slot)} deployed into {target}" + (" with 100 %" if slot.weight else "")
