"""What answers now: a route table compiled for the hot path. Built aside, then swapped in by one assignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from serving.dataplane.answers import Answers
from serving.dataplane.errors import Busy, OutOfService, Unknown
from serving.dataplane.keys import KeyRing
from serving.dataplane.rows import RowCodec
from serving.dataplane.spec import Spec
from serving.dataplane.validate import Actions, Checks
from serving.runtimes.onnx import OnnxBuild
from serving.table import BuildEntry, EndpointEntry, RouteTable, SlotEntry
from serving.traffic import PERCENT, choose

if TYPE_CHECKING:
    from serving.dataplane.batch import Batcher


class LoadedBuild:
    """A warm build with everything compiled from its signature."""

    def __init__(self, entry: BuildEntry, runtime: OnnxBuild) -> None:
        self.entry = entry
        self.runtime = runtime
        self.spec = Spec(entry.signature)
        self.spec.batched = self.spec.batched and runtime.batchable
        self.codec = RowCodec(self.spec)


class Builds:
    """The loaded builds of a table. Two versions may share their bytes, and then the loaded runtime too."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str, int], LoadedBuild] = {}
        self._by_digest: dict[str, LoadedBuild] = {}

    def add(self, loaded: LoadedBuild) -> None:
        entry = loaded.entry
        self._exact[entry.digest, entry.model, entry.version] = loaded
        self._by_digest[entry.digest] = loaded

    def of(self, digest: str, model: str, version: int) -> LoadedBuild | None:
        """Give the build of that version, else one with the same bytes."""
        return self._exact.get((digest, model, version)) or self._by_digest.get(digest)


BATCH_BUCKETS = 18
"""Batches by their rows: 1, 2, up to 4, up to 8, ... up to 65,536, and more."""


class SlotStats:
    """Since the process started: for the protocol's statistics call and for /metrics."""

    __slots__ = ("actions", "batch_rows", "batches", "fail_count", "fail_us", "last_ms", "queue_us", "rows", "run_us", "success_count", "success_us")

    def __init__(self) -> None:
        self.actions: Actions = {}
        self.batch_rows = [0] * BATCH_BUCKETS
        self.batches = self.rows = self.success_count = self.fail_count = self.last_ms = 0
        self.success_us = self.fail_us = self.queue_us = self.run_us = 0.0


class Slot:
    """One filled slot of one endpoint in one route table."""

    def __init__(self, endpoint: EndpointEntry, slot: SlotEntry, loaded: LoadedBuild, table_revision: int) -> None:
        self.endpoint_name = endpoint.name
        self.log_policy, self.log_share = endpoint.log_policy, endpoint.log_share
        self.table_revision = table_revision
        self.name, self.weight, self.shadow, self.is_live = slot.name, slot.weight, slot.shadow, slot.live
        self.build, self.spec, self.codec = loaded.runtime, loaded.spec, loaded.codec
        # Two versions may have the same bytes, and so one loaded build: the slot says which of them it answers for.
        self.entry = msgspec.structs.replace(loaded.entry, model=slot.model, version=slot.version) if slot.model else loaded.entry
        self.version = str(self.entry.version)
        self.checks = Checks(loaded.spec, endpoint.validation)
        self.answers = Answers(endpoint.name, self.name, self.entry, loaded.runtime.outputs)
        self.batcher: Batcher
        self.stats: SlotStats


class EndpointState:
    """One endpoint with its filled slots; ``in_flight`` counts the calls that it has taken and not answered."""

    def __init__(self, entry: EndpointEntry, slots: tuple[Slot, ...]) -> None:
        self.entry, self.name, self.limits, self.slots = entry, entry.name, entry.limits, slots
        self.sticky_on = entry.sticky_on
        self.timeout_s = entry.limits.timeout_ms / 1000
        self.in_flight = 0
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


class Routes:
    """A whole route table, compiled. ``errors`` says why builds could not be loaded, by digest."""

    def __init__(self, table: RouteTable, builds: Builds, errors: Mapping[str, str], before: Routes | None) -> None:
        self.table, self.revision, self.errors = table, table.revision, dict(errors)
        self.token = object()  # what was found out about a request's head holds while this is the table's
        self.keys = KeyRing(table.keys)
        self.endpoints = {entry.name: _endpoint(entry, builds, table.revision, before) for entry in table.endpoints}


def _endpoint(entry: EndpointEntry, builds: Builds, revision: int, before: Routes | None) -> EndpointState:
    """Compile one endpoint. If a build with traffic could not be loaded, the endpoint goes on as it was."""
    loaded = {slot: builds.of(slot.build_digest, slot.model, slot.version) for slot in entry.slots}
    old = before.endpoints.get(entry.name) if before else None
    if any(slot.weight > 0 and build is None for slot, build in loaded.items()) and old is not None and old.slots:
        return old
    return EndpointState(entry, tuple(Slot(entry, slot, build, revision) for slot, build in loaded.items() if build is not None))
