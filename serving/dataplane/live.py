"""What answers now: a route table compiled for the hot path. Built aside, then swapped in by one assignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from serving.dataplane.answers import Answers
from serving.dataplane.builds import Builds, CompiledBuild
from serving.dataplane.cache import AnswerCache, Made
from serving.dataplane.errors import Busy, OutOfService, Unknown
from serving.dataplane.keys import KeyRing
from serving.dataplane.limits import Bounds
from serving.dataplane.validate import Actions, Checks, filled_by
from serving.table import EndpointEntry, KeyEntry, RouteTable, SlotEntry
from serving.traffic import PERCENT, choose

if TYPE_CHECKING:
    from serving.dataplane.batch import Batcher


BATCH_BUCKETS = 18
"""Batches by their rows: 1, 2, up to 4, up to 8, ... up to 65,536, and more."""


class SlotStats:
    """Since the process started: for the protocol's statistics call and for /metrics."""

    __slots__ = (
        "actions",
        "batch_rows",
        "batches",
        "cache_hits",
        "cache_misses",
        "cached_rows",
        "fail_count",
        "fail_us",
        "last_ms",
        "queue_us",
        "rows",
        "run_us",
        "success_count",
        "success_us",
    )

    def __init__(self) -> None:
        self.actions: Actions = {}
        self.batch_rows = [0] * BATCH_BUCKETS
        self.cache_hits = self.cache_misses = self.cached_rows = 0
        self.batches = self.rows = self.success_count = self.fail_count = self.last_ms = 0
        self.success_us = self.fail_us = self.queue_us = self.run_us = 0.0


class Slot:
    """One filled slot of one endpoint, handed on from table to table while nothing of it changes."""

    def __init__(self, endpoint: EndpointEntry, slot: SlotEntry, compiled: CompiledBuild, table_revision: int) -> None:
        self.endpoint_name = endpoint.name
        self.log_policy, self.log_share = endpoint.log_policy, endpoint.log_share
        self.table_revision = table_revision
        self.name, self.weight, self.shadow, self.is_live = slot.name, slot.weight, slot.shadow, slot.live
        self.compiled = compiled
        self.build, self.spec, self.codec = compiled.build, compiled.spec, compiled.codec
        filled = filled_by(endpoint.validation, compiled.spec.signature.features)
        if filled:
            self.spec, self.codec = compiled.filling(filled)
        # Two versions may have the same bytes, and so one loaded build: the slot says which of them it answers for.
        self.entry = msgspec.structs.replace(compiled.entry, model=slot.model, version=slot.version) if slot.model else compiled.entry
        self.version = str(self.entry.version)
        self.checks = Checks(compiled.spec, endpoint.validation)
        self.answers = Answers(endpoint.name, self.name, self.entry, compiled.build.outputs)
        self.made = Made(self.entry, endpoint.validation, endpoint.cache)
        self.cache: AnswerCache | None = None
        self.batcher: Batcher
        self.stats: SlotStats


class Flight:
    """Counts the calls that an endpoint has taken and not answered, whichever table they came by."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class EndpointState:
    """One endpoint with its filled slots; ``flight`` is handed on from table to table."""

    def __init__(self, entry: EndpointEntry, slots: tuple[Slot, ...], flight: Flight) -> None:
        self.entry, self.name, self.limits, self.slots = entry, entry.name, entry.limits, slots
        self.sticky_on = entry.sticky_on
        self.bounds = Bounds(entry.name, entry.limits)
        self.flight = flight
        self.shadows = tuple(slot for slot in slots if slot.shadow)
        self._answering = tuple(slot for slot in slots if slot.weight > 0 and not slot.shadow)
        self._weights = [(slot.name, slot.weight) for slot in self._answering]
        self.sole = self._answering[0] if len(self._answering) == 1 and self._answering[0].weight == PERCENT else None
        self._complete = sum(slot.weight for slot in self._answering) == PERCENT

    @property
    def front(self) -> Slot:
        """The slot that describes the endpoint: the live one, else the one with most traffic; raises Busy without any."""
        if not self.slots:
            self._refuse_unloaded()
            raise Busy(f"The endpoint '{self.name}' has no model. Deploy one into a slot first.")
        return max(self.slots, key=lambda slot: (slot.is_live, slot.weight))

    def candidates(self, version: str) -> tuple[Slot, ...]:
        """Give the slots that may answer: those with traffic, or those that hold ``version``; raises Unknown or Busy."""
        if not self.slots:
            self._refuse_unloaded()
        if version:
            return self._holding(version)
        if not self._answering:
            raise Busy(f"The endpoint '{self.name}' has no slot with traffic. Deploy a model, or give a slot a share of the split.")
        return self._answering

    def bounds_for(self, key: KeyEntry) -> Bounds:
        """Give what a request of ``key`` may take here."""
        limits = key.limits
        return Bounds(self.name, self.limits, key) if limits.max_body_bytes or limits.timeout_ms else self.bounds

    def _refuse_unloaded(self) -> None:
        if self.entry.unloaded:
            raise OutOfService(f"The endpoint '{self.name}' is out of service: {self.entry.unloaded}. `signalbox load {self.name}` puts it back.")

    def _holding(self, version: str) -> tuple[Slot, ...]:
        slots = tuple(slot for slot in self.slots if slot.version == version)
        if not slots:
            there = ", ".join(sorted({slot.version for slot in self.slots})) or "none"
            raise Unknown(f"Request for unknown model: '{self.name}' version {version} is not found. Versions in its slots: {there}.")
        return slots

    def slot_for(self, version: str, sticky_key: bytes) -> Slot:
        """Choose the slot that answers ``sticky_key``; raises Unknown or Busy."""
        slots = self.candidates(version)
        if version:
            busy = [slot for slot in slots if slot.weight > 0]
            return busy[0] if busy else slots[0]
        if not self._complete:  # a build that could not be loaded has left a gap: the others take its share
            return max(slots, key=lambda slot: slot.weight)
        return slots[choose(sticky_key, self._weights)]


Filled = tuple[SlotEntry, CompiledBuild | None]


class Routes:
    """A whole route table, compiled. ``errors`` says why builds could not be loaded, by digest."""

    def __init__(self, table: RouteTable, builds: Builds, errors: Mapping[str, str], before: Routes | None) -> None:
        self.table, self.revision, self.errors = table, table.revision, dict(errors)
        self.token = object()  # what was found out about a request's head holds while this is the table's
        self.keys: KeyRing = before.keys if before is not None and before.table.keys == table.keys else KeyRing(table.keys)
        self.endpoints = {entry.name: _endpoint(entry, builds, table.revision, before) for entry in table.endpoints}


def _endpoint(entry: EndpointEntry, builds: Builds, revision: int, before: Routes | None) -> EndpointState:
    """Compile one endpoint, or hand on what nothing has changed of.

    If a build that is to answer is not there, the endpoint goes on as it was; if it was not there
    either, or ran what is refused now, then what was replaced answers again.
    """
    filled = [(slot, builds.of(slot.build_digest, slot.model, slot.version)) for slot in entry.slots]
    old = before.endpoints.get(entry.name) if before else None
    is_gap = any(slot.weight > 0 and compiled is None for slot, compiled in filled)
    if old is not None and old.slots and builds.refused.isdisjoint(slot.entry.digest for slot in old.slots):
        same_builds = [slot.compiled for slot in old.slots] == [compiled for _, compiled in filled if compiled is not None]
        if is_gap or (old.entry == entry and same_builds):
            return old
    present = [(slot, compiled) for slot, compiled in (_without_gap(filled) if is_gap else filled) if compiled is not None]
    return EndpointState(entry, tuple(Slot(entry, slot, compiled, revision) for slot, compiled in present), old.flight if old else Flight())


def _without_gap(filled: list[Filled]) -> list[Filled]:
    """If nothing that is to answer is there, give all traffic to the slot that was filled last before what is missing."""
    if any(slot.weight > 0 and compiled is not None for slot, compiled in filled):
        return filled  # the other slots take the share of what is missing
    missing_since = min(slot.deployed_at for slot, _ in filled if slot.weight > 0)
    earlier = [slot for slot, compiled in filled if compiled is not None and not slot.shadow and slot.deployed_at <= missing_since]
    if not earlier:
        return filled
    stand_in = max(earlier, key=lambda slot: slot.deployed_at)
    return [(msgspec.structs.replace(slot, weight=PERCENT) if slot is stand_in else slot, compiled) for slot, compiled in filled]
