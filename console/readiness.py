"""Reads what the checks before a promotion compare: traffic since the candidate came, outcomes, drift of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from console.checks import Check, Quality, Side, checks, passed
from core.clock import now
from monitoring import queries as monitored
from serving.counts import Numbers
from serving.queries import EndpointDetail, SlotDetail, slots_since

_DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The checks of ``candidate`` against ``live``, since when, and how many passed."""

    live: SlotDetail
    candidate: SlotDetail
    since: datetime
    rows: list[Check]
    passed: int


def of(detail: EndpointDetail) -> Readiness | None:
    """Give the checks, or None where there is nothing to compare."""
    live, candidate = detail.live, detail.candidate
    if live is None or candidate is None:
        return None
    since = max(candidate.deployed_at or now(), now() - _DAY)
    traffic = slots_since(detail.name, since)
    summaries = monitored.performance_summary(detail.name)
    qualities = {(found.model, found.version): Quality(found.metric, found.value, found.n) for found in summaries}
    rows = checks(*(_side(detail.name, slot, traffic, qualities) for slot in (live, candidate)))
    return Readiness(live, candidate, since, rows, passed(rows))


def _side(endpoint: str, slot: SlotDetail, traffic: dict[tuple[str, int], Numbers], qualities: dict[tuple[str, int], Quality]) -> Side:
    quality = qualities.get((slot.model, slot.version), Quality())
    return Side(traffic.get((slot.name, slot.version)), quality, _prediction_psi(endpoint, slot))


def _prediction_psi(endpoint: str, slot: SlotDetail) -> float | None:
    """The largest PSI of the version's outputs in the newest window."""
    grid = monitored.drift_overview(endpoint, hours=1, version=slot.version)
    return max((row.psi for row in grid.rows if row.is_output and row.psi is not None), default=None)
