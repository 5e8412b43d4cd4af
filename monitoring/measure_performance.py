"""Count outcomes per window, only where some came, and alert when a version got clearly worse."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import Sum

from core.clock import now
from monitoring import incidents, performance
from monitoring.incidents import Finding
from monitoring.models import LENGTH, Alert, Level, Outcome, PerformanceWindow, Rule, WindowProfile
from monitoring.performance import Answered, Counters
from monitoring.rules import rule_of
from monitoring.windows import end_of, lock_endpoint, start_of
from registry.models import Version

WINDOWS = 500
BASELINE_WINDOWS = 3
RECENT = {Level.FIVE_MINUTES: 12, Level.HOUR: 24, Level.DAY: 14}
_NAMES = {"accuracy": ("accuracy", "acc", "accuracy_score"), "mae": ("mae", "mean_absolute_error")}
_CALM = 3


def measure_waiting() -> int:
    """Count the dirty windows of all endpoints; gives how many endpoints there were."""
    names = list(PerformanceWindow.objects.filter(dirty=True).order_by("endpoint").values_list("endpoint", flat=True).distinct())
    for name in names:
        measure_performance(name)
    return len(names)


def measure_performance(endpoint: str) -> int:
    """Count the dirty windows of ``endpoint`` again, roll them up, judge; gives the number of windows counted."""
    counted = 0
    with transaction.atomic():
        lock_endpoint(endpoint)
        dirty = list(PerformanceWindow.objects.select_for_update().filter(endpoint=endpoint, dirty=True, level=Level.FIVE_MINUTES).order_by("id")[:WINDOWS])
        for window in dirty:
            _count(window)
            counted += 1
        PerformanceWindow.objects.bulk_update(dirty, ["n", "counters", "dirty"], batch_size=100)
        for level in (Level.HOUR, Level.DAY):
            _roll_up(dirty, level)
        if dirty:
            _judge(endpoint, rule_of(endpoint))
    return counted


def _count(window: PerformanceWindow) -> None:
    rows = Outcome.objects.filter(
        endpoint=window.endpoint,
        model=window.model,
        version=window.version,
        current=True,
        state=Outcome.State.JOINED,
        predicted_at__gte=window.start_at,
        predicted_at__lt=end_of(window.start_at, window.level),
    )
    made = performance.count(_answered(row) for row in rows.iterator(chunk_size=2000))
    window.n, window.counters, window.dirty = made.n, msgspec.to_builtins(made, str_keys=True), False


def _answered(row: Outcome) -> Answered:
    delay = (row.received_at - row.predicted_at).total_seconds() if row.predicted_at else 0.0
    return Answered(delay_s=delay, truth=row.truth, label=row.label, score=row.score, number=row.number, positive=row.positive or None)


def counters_of(document: dict[str, Any]) -> Counters:
    """Decode what a window keeps."""
    return msgspec.convert(document, Counters, str_keys=True)


def pooled(windows: Iterable[PerformanceWindow]) -> Counters:
    """Add up the counters of windows."""
    return performance.total(counters_of(window.counters) for window in windows)


def _roll_up(changed: list[PerformanceWindow], level: int) -> None:
    keys = {(row.endpoint, row.model, row.version, start_of(row.start_at, level)) for row in changed}
    made = []
    for endpoint, model, version, start in sorted(keys):
        parts = PerformanceWindow.objects.filter(
            endpoint=endpoint, model=model, version=version, level=Level.FIVE_MINUTES, start_at__gte=start, start_at__lt=end_of(start, level)
        )
        total = pooled(parts)
        made.append(
            PerformanceWindow(
                endpoint=endpoint,
                model=model,
                version=version,
                level=level,
                start_at=start,
                n=total.n,
                counters=msgspec.to_builtins(total, str_keys=True),
                dirty=False,
            )
        )
    key = ["endpoint", "model", "version", "level", "start_at"]
    PerformanceWindow.objects.bulk_create(made, update_conflicts=True, unique_fields=key, update_fields=["n", "counters", "dirty"])


def rows_predicted(endpoint: str, level: int, since: datetime) -> dict[tuple[str, int, datetime], int]:
    """Give the logged rows by (model, version, window), for the coverage. One query."""
    rows = WindowProfile.objects.filter(endpoint=endpoint, level=level, start_at__gte=since)
    found = rows.values("model", "version", "start_at").annotate(rows=Sum("n")).order_by()
    return {(row["model"], row["version"], row["start_at"]): row["rows"] for row in found}


def is_mature(n: int, predicted: int, rule: Rule) -> bool:
    """Tell whether a window has enough outcomes, in number and in share, to be judged."""
    return n >= rule.minimum_outcomes and n >= rule.minimum_coverage * predicted


def mature_windows(endpoint: str, level: int, since: datetime, rule: Rule) -> dict[tuple[str, int], list[PerformanceWindow]]:
    """Give the mature windows by (model, version), oldest first. Two queries."""
    predicted = rows_predicted(endpoint, level, since)
    found: dict[tuple[str, int], list[PerformanceWindow]] = defaultdict(list)
    for window in PerformanceWindow.objects.filter(endpoint=endpoint, level=level, start_at__gte=since).order_by("start_at"):
        if is_mature(window.n, predicted.get((window.model, window.version, window.start_at), 0), rule):
            found[window.model, window.version].append(window)
    return found


def baseline_of(metric: str, version: Version | None, windows: Sequence[Counters]) -> tuple[float | None, str]:
    """Give what the version should reach and where that is from: its registered metrics, else its first mature ``windows``."""
    for name, value in (version.metrics if version else {}).items():
        if name.lower() in _NAMES[metric] and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value), "as registered"
    if len(windows) < BASELINE_WINDOWS:
        return None, ""
    return performance.headline(performance.total(windows[:BASELINE_WINDOWS]))[1], f"its first {BASELINE_WINDOWS} windows"


@dataclass(frozen=True, slots=True)
class _Line:
    """One version's recent mature windows, oldest first, with what it should reach."""

    model: str
    version: int
    level: int
    windows: list[PerformanceWindow]
    metric: str
    baseline: float | None
    rule: Rule

    def is_worse(self, window: PerformanceWindow) -> bool:
        made, rule = counters_of(window.counters), self.rule
        return self.baseline is not None and performance.clearly_worse(made, self.baseline, accuracy_drop=rule.accuracy_drop, error_rise=rule.error_rise)


def _judge(endpoint: str, rule: Rule) -> None:
    """Alert when the newest mature windows in a row are all clearly worse; calm when none is. Immature ones say nothing.

    The finest level at which some version has enough mature windows decides.
    """
    at = now()
    for level in Level:
        found = mature_windows(endpoint, level, at - LENGTH[level] * RECENT[level], rule)
        lines = [_line(endpoint, key, level, windows, rule) for key, windows in found.items() if len(windows) >= rule.windows_in_a_row]
        if lines:
            worst = incidents.worst_of([finding for line in lines if (finding := _finding(line))])
            if worst is not None:
                incidents.report(endpoint, worst)
            elif not any(line.is_worse(window) for line in lines for window in line.windows[-_CALM:]):
                incidents.calm(endpoint, Alert.Cause.PERFORMANCE, at)
            return


def _line(endpoint: str, key: tuple[str, int], level: int, windows: list[PerformanceWindow], rule: Rule) -> _Line:
    metric = performance.headline(counters_of(windows[-1].counters))[0]
    version = Version.objects.filter(model__name=key[0], number=key[1]).first()
    ours = PerformanceWindow.objects.filter(endpoint=endpoint, model=key[0], version=key[1], level=level, n__gte=rule.minimum_outcomes)
    first = [counters_of(window.counters) for window in ours.order_by("start_at")[:BASELINE_WINDOWS]]
    return _Line(key[0], key[1], level, windows, metric, baseline_of(metric, version, first)[0], rule)


def _finding(line: _Line) -> Finding | None:
    newest = line.windows[-line.rule.windows_in_a_row :]
    value = performance.headline(pooled(newest))[1]
    if line.baseline is None or value is None or not all(line.is_worse(window) for window in newest):
        return None
    limit, far = _limits(line.metric, line.baseline, line.rule)
    severity = "severe" if (value < far if line.metric == "accuracy" else value > far) else "watch"
    form = ".1%" if line.metric == "accuracy" else ".4g"
    name = "Accuracy" if line.metric == "accuracy" else "Mean absolute error"
    item = {"name": name, "key": line.metric, "measure": line.metric, "value": value, "limit": limit, "severity": severity, "importance": None}
    return Finding(
        cause=Alert.Cause.PERFORMANCE,
        model=line.model,
        version=line.version,
        severity=severity,
        title=f"{name} of v{line.version} is {value:{form}}, {line.baseline:{form}} expected",
        items=[item],
        level=line.level,
        first_at=newest[0].start_at,
        window_at=newest[-1].start_at,
    )


def _limits(metric: str, baseline: float, rule: Rule) -> tuple[float, float]:
    """Give the value from which it is an alert, and the one from which it is severe."""
    if metric == "accuracy":
        return baseline - rule.accuracy_drop, baseline - 3 * rule.accuracy_drop
    return baseline * (1 + rule.error_rise), baseline * (1 + 3 * rule.error_rise)
