"""Reads of endpoints, their slots and their ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Prefetch

from core.errors import NotFound
from core.paging import ROWS, Page, Sorts, page_of
from registry.signature import Signature
from serving import ledger, roll_back, routes
from serving.counts import Numbers
from serving.models import Endpoint, LedgerEntry, Slot
from serving.queries.system import load_errors
from serving.queries.traffic import traffic_now
from serving.traffic import PERCENT, RoutingState, SlotState

ENDPOINT_SORTS = Sorts("name", {"name": ["name"], "changed": ["updated_at", "id"]})
_SLOTS = Prefetch("slots", Slot.objects.select_related("build__version__model").order_by("name"))


@dataclass(frozen=True, slots=True)
class SlotDetail:
    """One slot with everything about the build in it; the fields of the build are empty in an empty slot."""

    name: str
    weight: int
    shadow: bool
    live: bool
    title: str = ""
    model: str = ""
    version: int = 0
    build_id: str = ""
    build_kind: str = ""
    digest: str = ""
    size_bytes: int = 0
    single_row_ms: float | None = None
    metrics: dict[str, Any] | None = None
    registered_by: str = ""
    registered_at: datetime | None = None
    deployed_at: datetime | None = None
    deployed_by: str = ""
    load_error: str = ""
    signature: Signature | None = None

    @property
    def filled(self) -> bool:
        return bool(self.build_id)

    @property
    def role(self) -> str:
        """What the slot is now, in a word or two."""
        if not self.filled:
            return "Empty"
        if self.shadow:
            return "Shadow"
        if self.live and self.weight:
            return "Live"
        return "Candidate" if self.weight else "Standby, warm"


@dataclass(frozen=True, slots=True)
class EndpointDetail:
    """One endpoint as its page shows it; forms carry ``revision``."""

    id: UUID
    name: str
    description: str
    revision: int
    live_slot: str
    sticky_on: str
    log_policy: str
    log_share: float
    masked_inputs: tuple[str, ...]
    validation: dict[str, Any]
    limits: dict[str, Any]
    cache: dict[str, Any]
    tags: dict[str, Any]
    created_by: str
    created_at: datetime
    slots: tuple[SlotDetail, ...]
    state: RoutingState
    unloaded_at: datetime | None = None
    unloaded_by: str = ""
    unload_reason: str = ""

    @property
    def live(self) -> SlotDetail | None:
        """The filled live slot, or None before the first deployment."""
        return next((slot for slot in self.slots if slot.live and slot.filled), None)

    @property
    def candidate(self) -> SlotDetail | None:
        """What a promotion would make live: the heaviest filled slot that is not live."""
        others = [slot for slot in self.slots if slot.filled and not slot.live]
        return max(others, key=lambda slot: slot.weight, default=None)

    @property
    def standing(self) -> str:
        """``Steady on v12``, ``Rollout at 10 %``, ``No version yet`` or ``Out of service``."""
        return standing_of(self.state)


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """One endpoint of a list, with the numbers of the last minute."""

    name: str
    description: str
    revision: int
    sticky_on: str
    created_at: datetime
    updated_at: datetime
    state: RoutingState
    now: Numbers

    @property
    def standing(self) -> str:
        return standing_of(self.state)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One change: who, what, from and to, when, why."""

    id: UUID
    endpoint: str
    revision: int
    verb: str
    summary: str
    actor_kind: str
    actor_name: str
    reason: str
    before: RoutingState
    after: RoutingState
    restores: int | None
    table_revision: int
    at: datetime


def standing_of(state: RoutingState) -> str:
    """Say in a few words how the traffic stands."""
    live = state.slot(state.live_slot)
    if not state.loaded:
        return "Out of service"
    if live is None or not state.answering:
        return "No version yet"
    if live.weight == PERCENT:
        return f"Steady on {state.title(live)}"
    return f"Rollout at {PERCENT - live.weight} %"


def endpoints_page(
    *, sort: str = "", cursor: str | None = None, limit: int = ROWS, search: str = "", names: Collection[str] | None = None
) -> Page[EndpointRow]:
    """Give endpoints, by name unless ``sort`` says otherwise, with their slots and the last minute's numbers. Three queries, whatever the number."""
    rows = Endpoint.objects.prefetch_related(_SLOTS)
    if names is not None:
        rows = rows.filter(name__in=names)
    if search:
        rows = rows.filter(name__icontains=search)
    page = page_of(rows, order=ENDPOINT_SORTS.order(sort), cursor=cursor, limit=limit)
    numbers = traffic_now([endpoint.name for endpoint in page.results])
    return page.map(lambda endpoint: _row(endpoint, numbers[endpoint.name]))


def endpoints_with_version(model: str, version: int | None = None) -> dict[int, list[tuple[str, SlotState]]]:
    """Give where a model's versions are deployed: version number to (endpoint, slot). One query."""
    slots = Slot.objects.filter(build__version__model__name=model).select_related("endpoint", "build__version__model").order_by("endpoint__name", "name")
    if version is not None:
        slots = slots.filter(build__version__number=version)
    found: dict[int, list[tuple[str, SlotState]]] = {}
    for slot in slots:
        value = ledger.slot_state(slot)
        found.setdefault(value.version or 0, []).append((slot.endpoint.name, value))
    return found


def endpoint_detail(name: str) -> EndpointDetail:
    """Give one endpoint; raises NotFound. Three queries."""
    endpoint = _endpoint(name)
    slots = list(endpoint.slots.all())
    errors = load_errors()
    state = _state(endpoint, slots)
    return EndpointDetail(
        id=endpoint.id,
        name=endpoint.name,
        description=endpoint.description,
        revision=endpoint.revision,
        live_slot=endpoint.live_slot,
        sticky_on=endpoint.sticky_on,
        log_policy=endpoint.log_policy,
        log_share=endpoint.log_share,
        masked_inputs=tuple(endpoint.masked_inputs),
        validation=endpoint.validation,
        limits=endpoint.limits,
        cache=endpoint.cache,
        tags=endpoint.tags,
        created_by=endpoint.created_by,
        created_at=endpoint.created_at,
        slots=tuple(_slot(slot, state, errors) for slot in slots),
        state=state,
        unloaded_at=endpoint.unloaded_at,
        unloaded_by=endpoint.unloaded_by,
        unload_reason=endpoint.unload_reason,
    )


def ledger_page(*, endpoint: str | None = None, cursor: str | None = None, limit: int = ROWS) -> Page[LedgerRow]:
    """Give changes, newest first, of one endpoint or of all. One query."""
    entries = LedgerEntry.objects.select_related("endpoint")
    if endpoint is None:
        return page_of(entries, order=["-id"], cursor=cursor, limit=limit).map(_ledger_row)
    return page_of(entries.filter(endpoint__name=endpoint), order=["-revision"], cursor=cursor, limit=limit).map(_ledger_row)


def state_at(endpoint: str, at: datetime) -> LedgerRow | None:
    """Tell what served at a moment: the last change at or before ``at``, or None if the endpoint was not there yet. One query."""
    entry = LedgerEntry.objects.select_related("endpoint").filter(endpoint__name=endpoint, at__lte=at).order_by("-at", "-revision").first()
    return _ledger_row(entry) if entry else None


def roll_back_target(name: str) -> RoutingState | None:
    """Give the state that a roll back would apply now, or None where there is none. Four queries."""
    endpoint = _endpoint(name)
    past = roll_back.target(endpoint, _state(endpoint, endpoint.slots.all()))
    return past.state if past else None


def _endpoint(name: str) -> Endpoint:
    endpoint = Endpoint.objects.prefetch_related(_SLOTS).filter(name=name).first()
    if endpoint is None:
        raise NotFound(f"There is no endpoint {name}. The list of endpoints has those that exist.")
    return endpoint


def _state(endpoint: Endpoint, slots: Iterable[Slot]) -> RoutingState:
    return RoutingState(live_slot=endpoint.live_slot, slots=tuple(ledger.slot_state(slot) for slot in slots), loaded=endpoint.unloaded_at is None)


def _row(endpoint: Endpoint, numbers: Numbers) -> EndpointRow:
    return EndpointRow(
        name=endpoint.name,
        description=endpoint.description,
        revision=endpoint.revision,
        sticky_on=endpoint.sticky_on,
        created_at=endpoint.created_at,
        updated_at=endpoint.updated_at,
        state=_state(endpoint, endpoint.slots.all()),
        now=numbers,
    )


def _slot(slot: Slot, state: RoutingState, errors: dict[str, str]) -> SlotDetail:
    live = slot.name == state.live_slot
    if slot.build is None:
        return SlotDetail(name=slot.name, weight=slot.weight, shadow=slot.shadow, live=live)
    build, version = slot.build, slot.build.version
    return SlotDetail(
        name=slot.name,
        weight=slot.weight,
        shadow=slot.shadow,
        live=live,
        title=state.title(ledger.slot_state(slot)),
        model=version.model.name,
        version=version.number,
        build_id=str(build.id),
        build_kind=build.kind,
        digest=build.digest,
        size_bytes=build.size_bytes,
        single_row_ms=build.single_row_ms,
        metrics=version.metrics,
        registered_by=version.created_by,
        registered_at=version.created_at,
        deployed_at=slot.deployed_at,
        deployed_by=slot.deployed_by,
        load_error=errors.get(build.digest, ""),
        signature=routes.signature_of(build),
    )


def _ledger_row(entry: LedgerEntry) -> LedgerRow:
    return LedgerRow(
        id=entry.id,
        endpoint=entry.endpoint.name,
        revision=entry.revision,
        verb=entry.verb,
        summary=entry.summary,
        actor_kind=entry.actor_kind,
        actor_name=entry.actor_name,
        reason=entry.reason,
        before=ledger.as_state(entry.before),
        after=ledger.as_state(entry.after),
        restores=entry.restores,
        table_revision=entry.table_revision,
        at=entry.at,
    )
