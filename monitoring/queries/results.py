"""Performance from outcomes: over time with the changes of what answered, and summed up per version."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

import msgspec
from django.db.models import TextField
from django.db.models.functions import Cast

from core.clock import now
from monitoring import performance
from monitoring.measure_performance import baseline_of, is_mature, rows_predicted
from monitoring.models import LENGTH, Level, PerformanceWindow, Rule
from monitoring.performance import Counters
from monitoring.queries.shapes import Mark, PerformanceLine, PerformanceSeries, PerformanceSummary
from monitoring.rules import rule_of
from monitoring.windows import start_of
from registry.models import Version
from serving.models import LedgerEntry

_LONGEST_FINE = 6
_YOUNG = timedelta(hours=3)
_LONGEST_HOURLY = 24 * 14
_Key = tuple[str, int]
_decode = msgspec.json.Decoder(Counters).decode


def marks_of(endpoint: str, since: datetime, until: datetime | None = None) -> tuple[Mark, ...]:
    """Give the changes of what answered, oldest first, at most 200. One query."""
    rows = LedgerEntry.objects.filter(endpoint__name=endpoint, at__gte=since, at__lte=until or now()).exclude(verb="edit").order_by("-at")[:200]
    return tuple(Mark(row.at, row.summary, row.actor_name) for row in reversed(rows))


def performance_series(endpoint: str, hours: int = 24) -> PerformanceSeries:
    """Give the headline metric per version and window: 5 minutes up to 6 h, hours up to 14 days, then days.

    While the first outcomes are younger than three hours, windows of 5 minutes. Six queries.
    """
    at, rule = now(), rule_of(endpoint)
    level = Level.FIVE_MINUTES if hours <= _LONGEST_FINE else Level.HOUR if hours <= _LONGEST_HOURLY else Level.DAY
    since = start_of(at - timedelta(hours=hours), level)
    windows = _windows(endpoint, level, since)
    first = min((start for one in windows.values() for start in one), default=at)
    if level == Level.HOUR and at - first < _YOUNG:
        level = Level.FIVE_MINUTES
        windows = _windows(endpoint, level, since)
    predicted = rows_predicted(endpoint, level, since)
    starts = tuple(sorted({start for one in windows.values() for start in one} | {start for _, _, start in predicted}))
    versions = _versions({*windows})
    metric = _metric(windows)
    lines = tuple(_line(key, windows[key], starts, predicted, rule=rule, version=versions.get(key), metric=metric) for key in sorted(windows))
    return PerformanceSeries(endpoint, metric, starts, int(LENGTH[level].total_seconds()), lines, marks_of(endpoint, since))


def _windows(endpoint: str, level: int, since: datetime) -> dict[_Key, dict[datetime, Counters]]:
    """Give the windows with outcomes, oldest first. Decoded from the text: of a week there are hundreds, with two hundred bins each way."""
    found: dict[_Key, dict[datetime, Counters]] = defaultdict(dict)
    rows = PerformanceWindow.objects.filter(endpoint=endpoint, level=level, start_at__gte=since, n__gt=0).order_by("start_at")
    for model, version, start, text in rows.values_list("model", "version", "start_at", Cast("counters", TextField())):
        found[model, version][start] = _decode(text)
    return found


def _versions(keys: set[_Key]) -> dict[_Key, Version]:
    rows = Version.objects.filter(model__name__in={name for name, _ in keys}, number__in={number for _, number in keys}).select_related("model")
    return {(row.model.name, row.number): row for row in rows}


def _metric(windows: dict[_Key, dict[datetime, Counters]]) -> str:
    newest = max((start, key) for key, one in windows.items() for start in one) if windows else None
    return performance.headline(windows[newest[1]][newest[0]])[0] if newest else "accuracy"


def _line(
    key: _Key,
    windows: dict[datetime, Counters],
    starts: tuple[datetime, ...],
    predicted: dict[tuple[str, int, datetime], int],
    *,
    rule: Rule,
    version: Version | None,
    metric: str,
) -> PerformanceLine:
    counters = [windows.get(start) for start in starts]
    rows = [predicted.get((*key, start), 0) for start in starts]
    bounds = [performance.interval(made) if made else None for made in counters]
    sizes = [made.n if made else 0 for made in counters]
    grown = [made for start, made in windows.items() if is_mature(made.n, predicted.get((*key, start), 0), rule)]
    return PerformanceLine(
        version=key[1],
        value=tuple(performance.headline(made)[1] if made else None for made in counters),
        low=tuple(bound[0] if bound else None for bound in bounds),
        high=tuple(bound[1] if bound else None for bound in bounds),
        mature=tuple(is_mature(size, row, rule) for size, row in zip(sizes, rows, strict=True)),
        n=tuple(sizes),
        coverage=tuple(_coverage(size, row) for size, row in zip(sizes, rows, strict=True)),
        baseline=baseline_of(metric, version, grown)[0],
    )


def _coverage(n: int, predicted: int) -> float | None:
    return min(1.0, n / predicted) if predicted else None


def performance_summary(endpoint: str, hours: int = 24, *, rule: Rule | None = None) -> tuple[PerformanceSummary, ...]:
    """Sum up the last ``hours`` per version, newest version first; also versions without any outcome. Four queries, three with ``rule``."""
    at, rule = now(), rule or rule_of(endpoint)
    level = Level.FIVE_MINUTES if hours <= _LONGEST_FINE else Level.HOUR if hours <= _LONGEST_HOURLY else Level.DAY
    since = start_of(at - timedelta(hours=hours), level)
    windows = _windows(endpoint, level, since)
    predicted: dict[_Key, int] = defaultdict(int)
    by_window = rows_predicted(endpoint, level, since)
    for (model, version, _), rows in by_window.items():
        predicted[model, version] += rows
    versions = _versions({*predicted, *windows})
    keys = sorted({*windows, *predicted}, key=lambda key: key[1], reverse=True)
    return tuple(_summary(endpoint, key, windows.get(key, {}), predicted[key], rule=rule, version=versions.get(key)) for key in keys)


def _summary(endpoint: str, key: _Key, windows: dict[datetime, Counters], predicted: int, *, rule: Rule, version: Version | None) -> PerformanceSummary:
    made = performance.total(windows.values())
    metric, value = performance.headline(made)
    mature = is_mature(made.n, predicted, rule)
    baseline, source = baseline_of(metric, version, [window for window in windows.values() if window.n >= rule.minimum_outcomes])
    labels = tuple(sorted({*made.confusion, *(label for row in made.confusion.values() for label in row)}))
    return PerformanceSummary(
        endpoint=endpoint,
        model=key[0],
        version=key[1],
        task="regression" if made.numbers else "classification",
        metric=metric,
        value=value,
        n=made.n,
        predictions=predicted,
        coverage=_coverage(made.n, predicted),
        delay_s=made.delay_s / made.n if made.n else None,
        baseline=baseline,
        baseline_text=source,
        mature=mature,
        text=_text(made, predicted, rule, mature=mature),
        metrics=performance.metrics(made),
        labels=labels,
        confusion=tuple(tuple(made.confusion.get(truth, {}).get(label, 0) for label in labels) for truth in labels),
    )


def _text(made: Counters, predicted: int, rule: Rule, *, mature: bool) -> str:
    if not made.n:
        return "No outcomes yet."
    share = f", {made.n / predicted:.0%} of the predictions" if predicted else ""
    if mature:
        return f"{made.n:,} outcomes{share}."
    return f"{made.n:,} outcomes{share}: judged from {rule.minimum_outcomes:,} and {rule.minimum_coverage:.0%}."
