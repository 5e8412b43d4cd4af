"""Reads of the data-plane processes: which route table each has, what it could not load, whether they agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from core.clock import now
from serving.models import DataPlaneProcess, PublishedTable

STALE_AFTER = timedelta(seconds=5)
FORGOTTEN_AFTER = timedelta(minutes=1)
MAY_DISAGREE = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One data-plane process as it last reported. ``behind`` counts the publications that it has not taken yet."""

    id: UUID
    kind: str
    host: str
    pid: int
    table_revision: int
    behind: int
    ready: bool
    stale: bool
    builds: list[dict[str, Any]]
    memory_bytes: int
    spooled_segments: int
    lost_predictions: int
    started_at: datetime
    seen_at: datetime

    @property
    def loaded_builds(self) -> list[dict[str, Any]]:
        """Those in memory; the others are loaded by the next call."""
        return [build for build in self.builds if build.get("state") == "loaded"]

    @property
    def failed_builds(self) -> list[dict[str, Any]]:
        return [build for build in self.builds if build.get("error")]


@dataclass(frozen=True, slots=True)
class SystemState:
    """The published routes and who has taken them. ``disagree``: two live processes differ for more than 2 s."""

    table_revision: int
    published_at: datetime | None
    processes: tuple[ProcessState, ...]
    disagree: bool


def processes() -> tuple[ProcessState, ...]:
    """Give the processes seen in the last minute, oldest first. Two queries."""
    return system_state().processes


def system_state() -> SystemState:
    """Give the newest revision and every process's. Two queries."""
    moment = now()
    newest = PublishedTable.objects.order_by("-revision").values_list("revision", "published_at").first()
    revision, published_at = newest or (0, None)
    rows = DataPlaneProcess.objects.filter(seen_at__gt=moment - FORGOTTEN_AFTER).order_by("started_at", "id")
    states = tuple(_state(row, revision, moment) for row in rows)
    live = {state.table_revision for state in states if not state.stale}
    settled = published_at is None or moment - published_at > MAY_DISAGREE
    return SystemState(table_revision=revision, published_at=published_at, processes=states, disagree=len(live) > 1 and settled)


def load_errors() -> dict[str, str]:
    """Give why builds could not be loaded, by digest, as live processes say. One query."""
    rows = DataPlaneProcess.objects.filter(seen_at__gt=now() - STALE_AFTER).values_list("builds", flat=True)
    return {build["digest"]: build["error"] for builds in rows for build in builds if build.get("error")}


def refused_builds() -> dict[str, str] | None:
    """Give the builds that processes refuse to run since running them has ended processes, and why, by digest; None if no process speaks. One query."""
    rows = list(DataPlaneProcess.objects.filter(seen_at__gt=now() - STALE_AFTER).values_list("builds", flat=True))
    return {build["digest"]: build["error"] for builds in rows for build in builds if build.get("state") == "refused"} if rows else None


def _state(row: DataPlaneProcess, newest: int, moment: datetime) -> ProcessState:
    return ProcessState(
        id=row.id,
        kind=row.kind,
        host=row.host,
        pid=row.pid,
        table_revision=row.table_revision,
        behind=max(0, newest - row.table_revision),
        ready=row.ready,
        stale=moment - row.seen_at > STALE_AFTER,
        builds=row.builds,
        memory_bytes=row.memory_bytes,
        spooled_segments=row.spooled_segments,
        lost_predictions=row.lost_predictions,
        started_at=row.started_at,
        seen_at=row.seen_at,
    )
