"""Alerts for pages and lists, and the verdict of each endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from core.clock import now
from core.paging import ROWS, Sorts, page_of
from monitoring import performance
from monitoring.errors import NoSuchAlert
from monitoring.measure_performance import counters_of
from monitoring.models import LENGTH, Alert, DriftResult, PerformanceWindow, Standing, Verdict
from monitoring.queries.results import marks_of
from monitoring.queries.shapes import AlertChart, AlertDetail, AlertItem, AlertRow, AlertsPage, Change, EndpointVerdict, NoteRow
from monitoring.windows import end_of, start_of
from serving.models import LedgerEntry
from serving.sealed_names import is_sealed

# By the alphabet severe comes before watch, so the rising order of the severities is the falling one of their words.
ALERT_SORTS = Sorts("-number", {"number": ["number"], "first": ["first_at", "number"], "last": ["last_at", "number"], "severity": ["-severity", "number"]})
BEFORE = timedelta(hours=2)
_MOST_LINES = 3
_WINDOWS_AROUND = 24


def open_alert_count() -> int:
    """Count the alerts that are open and not acknowledged. One query."""
    return Alert.objects.filter(state=Alert.State.OPEN).count()


def false_alarms(endpoint: str, days: int = 90) -> tuple[int, int]:
    """Give how many alerts of the last ``days`` people marked as false, and how many there were. One query."""
    ours = Alert.objects.filter(endpoint=endpoint, first_at__gte=now() - timedelta(days=days))
    found = ours.aggregate(false=Count("number", filter=Q(false_alarm=True)), all=Count("number"))
    return found["false"], found["all"]


def alerts_page(*, state: str = "", endpoint: str = "", sort: str = "", cursor: str | None = None, limit: int = ROWS) -> AlertsPage:
    """Give a page of alerts of a state (``unresolved`` for open and acknowledged) and an endpoint, newest first unless ``sort`` says otherwise.

    Three queries at most.
    """
    ours = Alert.objects.filter(endpoint=endpoint) if endpoint else Alert.objects.all()
    counts: dict[str, int] = dict.fromkeys(Alert.State.values, 0) | dict(ours.values_list("state").annotate(rows=Count("number")).order_by())
    page = page_of(_in_state(ours, state), order=ALERT_SORTS.order(sort), cursor=cursor, limit=limit)
    quiet = None
    if not counts[Alert.State.OPEN] + counts[Alert.State.ACKNOWLEDGED]:
        quiet = ours.order_by("-resolved_at").values_list("resolved_at", flat=True).first()
    return AlertsPage(tuple(_row(alert) for alert in page.results), page.next, counts, quiet)


def _in_state(alerts: QuerySet[Alert], state: str) -> QuerySet[Alert]:
    if state == "unresolved":
        return alerts.exclude(state=Alert.State.RESOLVED)
    return alerts.filter(state=state) if state else alerts


def _row(alert: Alert) -> AlertRow:
    return AlertRow(
        number=alert.number,
        endpoint=alert.endpoint,
        deleted=is_sealed(alert.endpoint),
        model=alert.model,
        version=alert.version,
        cause=alert.cause,
        state=alert.state,
        severity=alert.severity,
        title=alert.title,
        first_at=alert.first_at,
        first_end_at=_first_end(alert),
        last_at=alert.last_at,
        last_end_at=_end(alert, alert.last_at, _level(alert)),
        acknowledged_by=alert.acknowledged_by,
        resolved_by=alert.resolved_by,
        resolved_at=alert.resolved_at,
    )


def _end(alert: Alert, moment: datetime, level: int) -> datetime | None:
    """Give the end of the window that holds ``moment``; None for an alert of a moment."""
    return None if alert.cause == Alert.Cause.CRASH else end_of(start_of(moment, level), level)


def _first_end(alert: Alert) -> datetime | None:
    return _end(alert, alert.first_at, alert.detail.get("first_level", _level(alert)))


def open_alerts(endpoint: str) -> dict[tuple[str, int], list[AlertRow]]:
    """Give the alerts of ``endpoint`` that nobody resolved by each (model, version) that they are about, the severe first. One query; one per cause at most."""
    found: dict[tuple[str, int], list[AlertRow]] = {}
    for alert in _in_state(Alert.objects.filter(endpoint=endpoint), "unresolved").order_by("severity", "-number"):
        for model, version in alert.detail.get("versions", [(alert.model, alert.version)]):
            found.setdefault((model, version), []).append(_row(alert))
    return found


def alert_detail(number: int) -> AlertDetail:
    """Give one alert with its chart, the changes shortly before, and what to do. Raises NoSuchAlert. Five queries."""
    alert = Alert.objects.filter(number=number).first()
    if alert is None:
        raise NoSuchAlert(f"There is no alert {number}.")
    items = tuple(AlertItem(**item) for item in alert.detail.get("items", []))
    changes = _changes_before(alert)
    return AlertDetail(
        alert=_row(alert),
        revision=alert.revision,
        resolution=alert.resolution,
        false_alarm=alert.false_alarm,
        items=items,
        chart=_chart(alert, items),
        changes=changes,
        suggestion=_suggestion(alert, items, changes),
        notes=tuple(NoteRow(note.at, note.author, note.verb, note.text) for note in alert.notes.all()),
        raw=alert.detail,
    )


def _changes_before(alert: Alert) -> tuple[Change, ...]:
    until = _first_end(alert) or alert.first_at
    rows = LedgerEntry.objects.filter(endpoint__name=alert.endpoint, at__gte=alert.first_at - BEFORE, at__lte=until).exclude(verb="edit").order_by("-at")[:20]
    return tuple(Change(row.at, row.revision, row.verb, row.summary, row.actor_name, round((alert.first_at - row.at).total_seconds())) for row in rows)


def _level(alert: Alert) -> int:
    return int(alert.detail.get("level", 300))


def _chart(alert: Alert, items: tuple[AlertItem, ...]) -> AlertChart:
    length = LENGTH[_level(alert)]
    since, until = alert.first_at - length * _WINDOWS_AROUND, min(alert.last_at, alert.first_at + length * 10 * _WINDOWS_AROUND)
    lines = _performance_lines(alert, since, until) if alert.cause == Alert.Cause.PERFORMANCE else _drift_lines(alert, items, since, until)
    starts = sorted({start for line in lines.values() for start in line})
    return AlertChart(
        t=tuple(starts),
        lines={name: tuple(line.get(start) for start in starts) for name, line in lines.items()},
        limit=items[0].limit if items else None,
        unit=items[0].measure if items else "",
        marks=marks_of(alert.endpoint, since, until + length),
    )


def _drift_lines(alert: Alert, items: tuple[AlertItem, ...], since: datetime, until: datetime) -> dict[str, dict[datetime, float | None]]:
    names = {item.key: item.name for item in items[:_MOST_LINES]}
    lines: dict[str, dict[datetime, float | None]] = {name: {} for name in names.values()}
    ours = DriftResult.objects.filter(endpoint=alert.endpoint, model=alert.model, version=alert.version, level=_level(alert), feature__in=names)
    for result in ours.filter(start_at__gte=since, start_at__lte=until).order_by("start_at"):
        lines[names[result.feature]][result.start_at] = None if result.verdict == Verdict.TOO_FEW else result.psi
    return lines


def _performance_lines(alert: Alert, since: datetime, until: datetime) -> dict[str, dict[datetime, float | None]]:
    ours = PerformanceWindow.objects.filter(endpoint=alert.endpoint, model=alert.model, version=alert.version, level=_level(alert))
    rows = ours.filter(start_at__gte=since, start_at__lte=until, n__gt=0).order_by("start_at")
    return {f"v{alert.version}": {row.start_at: performance.headline(counters_of(row.counters))[1] for row in rows}}


def _suggestion(alert: Alert, items: tuple[AlertItem, ...], changes: tuple[Change, ...]) -> str:
    """Say what to do first: undo what was changed just before, else look at the data, else train again."""
    if alert.cause == Alert.Cause.CRASH:
        return "What it has replaced answers for it where it can. Roll back, so that the ledger says so too; to try the build again, deploy it anew."
    moved = next((change for change in changes if change.verb in ("promote", "split", "deploy", "roll_back")), None)
    if moved and alert.cause != Alert.Cause.DRIFT:
        return f"{moved.summary} ({moved.actor}) came shortly before. If that is the cause, roll back: it takes a second."
    if alert.cause == Alert.Cause.DRIFT and items:
        shift = f"Look at {items[0].name} first: has its source changed (a unit, a default, a new kind of caller)?"
        return f"{shift} If the change is real, train on newer rows; if it is expected to stay, set the reference from recent traffic."
    if alert.cause == Alert.Cause.OUTPUT_DRIFT:
        return "The answers shifted: look at which inputs drifted too. If none did, compare with the version before."
    return "Look at which inputs drifted at the same time; train on newer rows, or roll back to a version that did better."


def endpoint_verdicts(names: Sequence[str]) -> dict[str, EndpointVerdict]:
    """Give the verdict of each endpoint named; ``no_data`` for those never judged. One query."""
    counts = (
        Alert.objects.exclude(state=Alert.State.RESOLVED).filter(endpoint=OuterRef("endpoint")).order_by().values("endpoint").annotate(rows=Count("number"))
    )
    rows = Standing.objects.filter(endpoint__in=names).annotate(alerts=Subquery(counts.values("rows")))
    found = {row.endpoint: _verdict(row, getattr(row, "alerts", 0)) for row in rows}
    return {name: found.get(name) or EndpointVerdict(name, Verdict.NO_DATA.value, "no data", None, 0) for name in names}


def _verdict(row: Standing, alerts: Any) -> EndpointVerdict:
    return EndpointVerdict(row.endpoint, row.verdict, row.text, row.evaluated_at.astimezone(UTC), int(alerts or 0))
