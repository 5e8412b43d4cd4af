"""Reads what the checks before a promotion compare: traffic since the candidate came, outcomes, drift of the answers, open alerts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from console.checks import Alarm, Check, Quality, Side, checks, passed
from core.clock import now
from monitoring import queries as monitored
from monitoring.queries.shapes import AlertRow
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


def of(detail: EndpointDetail, known: monitored.Known | None = None) -> Readiness | None:
    """Give the checks, or None where there is nothing to compare. ``known`` saves reading again what the page has read."""
    live, candidate = detail.live, detail.candidate
    if live is None or candidate is None:
        return None
    known = known or monitored.known_of(detail.name)
    since = max(candidate.deployed_at or now(), now() - _DAY)
    traffic = slots_since(detail.name, since)
    summaries = monitored.performance_summary(detail.name, rule=known.rule)
    qualities = {(found.model, found.version): Quality(found.metric, found.value, found.n) for found in summaries}
    drifts = monitored.output_psi(detail.name, [(slot.model, slot.version) for slot in (live, candidate)], known=known)
    alarms = {key: tuple(_alarm(alert, *key) for alert in found) for key, found in monitored.open_alerts(detail.name).items()}
    rows = checks(*(_side(slot, traffic, qualities, drifts, alarms) for slot in (live, candidate)))
    return Readiness(live, candidate, since, rows, passed(rows))


def _alarm(alert: AlertRow, model: str, version: int) -> Alarm:
    """Give an alert about this version; its words are those of the one that it is worst in."""
    is_worst = (alert.model, alert.version) == (model, version)
    return Alarm(alert.number, alert.title if is_worst else f"{alert.title} in v{alert.version}, and v{version} too")


def _side(
    slot: SlotDetail,
    traffic: dict[tuple[str, int], Numbers],
    qualities: dict[tuple[str, int], Quality],
    drifts: dict[tuple[str, int], float | None],
    alarms: dict[tuple[str, int], tuple[Alarm, ...]],
) -> Side:
    version = (slot.model, slot.version)
    return Side(traffic.get((slot.name, slot.version)), qualities.get(version, Quality()), drifts.get(version), alarms.get(version, ()))
