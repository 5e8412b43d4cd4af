"""Open, update and calm alerts: one incident per endpoint and cause. Called with the endpoint's lock held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from monitoring.models import LENGTH, Alert, AlertNote, Level, WindowProfile

MONITOR = "monitor"


@dataclass(frozen=True, slots=True)
class Finding:
    """What crossed its limits: ``items`` are [{name, key, measure, value, limit, severity, importance}], worst first.

    All but ``versions``, which are all (model, version) that crossed some, is of the worst version.
    """

    cause: str
    model: str
    version: int
    severity: str
    title: str
    items: list[dict[str, Any]]
    level: int
    first_at: datetime
    window_at: datetime
    versions: tuple[tuple[str, int], ...] = ()


def worst_of(findings: Sequence[Finding]) -> Finding | None:
    """Give the finding of the worst version, with all versions of ``findings``; None if there is none."""
    worst = max(findings, key=lambda finding: (finding.severity == Alert.Severity.SEVERE, len(finding.items)), default=None)
    return worst and replace(worst, versions=tuple(sorted({(finding.model, finding.version) for finding in findings})))


def report(endpoint: str, finding: Finding) -> Alert | None:
    """Open an alert for the finding, or bring the open one up to date.

    None when a person resolved the last one and it has not been calm since, unless it became severe.
    """
    key = f"{finding.cause}:{endpoint}"
    last = Alert.objects.select_for_update().filter(dedup_key=key).order_by("-number").first()
    if last is not None and last.state != Alert.State.RESOLVED:
        return _bring_up_to_date(last, finding)
    if last is not None and last.waits_for_calm and not _is_worse(last, finding):
        return None
    first_at = _first_moment(endpoint, finding)
    return Alert.objects.create(
        endpoint=endpoint,
        model=finding.model,
        version=finding.version,
        cause=finding.cause,
        dedup_key=key,
        severity=finding.severity,
        title=finding.title[:200],
        detail=_detail(finding, finding.level),
        first_at=first_at,
        last_at=max(first_at, finding.window_at),
    )


def _first_moment(endpoint: str, finding: Finding) -> datetime:
    """Give the start of the first window; of an hour or a day the start of the 5 minutes in which the version first had traffic there. One query at most."""
    if finding.level == Level.FIVE_MINUTES:
        return finding.first_at
    fine = WindowProfile.objects.filter(endpoint=endpoint, model=finding.model, version=finding.version, level=Level.FIVE_MINUTES)
    within = fine.filter(start_at__gte=finding.first_at, start_at__lt=finding.first_at + LENGTH[finding.level])
    return within.order_by("start_at").values_list("start_at", flat=True).first() or finding.first_at


def _is_worse(last: Alert, finding: Finding) -> bool:
    return finding.severity == Alert.Severity.SEVERE and last.severity == Alert.Severity.WATCH


def _bring_up_to_date(alert: Alert, finding: Finding) -> Alert:
    if _is_worse(alert, finding):
        AlertNote.objects.create(alert=alert, author=MONITOR, verb="escalated", text="From watch to severe.")
    alert.model, alert.version, alert.severity, alert.title = finding.model, finding.version, finding.severity, finding.title[:200]
    first_level = alert.detail.get("first_level", finding.level)
    alert.detail, alert.last_at = _detail(finding, first_level), max(alert.last_at, finding.window_at)
    alert.save(update_fields=["model", "version", "severity", "title", "detail", "last_at"])
    return alert


def _detail(finding: Finding, first_level: int) -> dict[str, Any]:
    """Give what is kept as ``Alert.detail``; ``first_level`` is that of the window of ``first_at``, ``level`` that of the newest."""
    window = {"level": finding.level, "first_level": first_level, "window_at": finding.window_at.isoformat()}
    return {"items": finding.items, "versions": finding.versions or [(finding.model, finding.version)], **window}


def calm(endpoint: str, cause: str, at: datetime) -> None:
    """Resolve the open alert of that cause, and let the cause open a new one from now on."""
    key = f"{cause}:{endpoint}"
    alert = Alert.objects.select_for_update().filter(dedup_key=key).order_by("-number").first()
    if alert is None:
        return
    if alert.state != Alert.State.RESOLVED:
        alert.state, alert.resolved_at, alert.resolved_by = Alert.State.RESOLVED, at, MONITOR
        alert.resolution = "It was calm again for several windows in a row."
        alert.revision += 1
        AlertNote.objects.create(alert=alert, author=MONITOR, verb="resolved", text=alert.resolution)
    elif not alert.waits_for_calm:
        return
    alert.waits_for_calm = False
    alert.save(update_fields=["state", "resolved_at", "resolved_by", "resolution", "revision", "waits_for_calm"])
