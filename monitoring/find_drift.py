"""From judged windows to alerts: which features drifted several windows in a row, and the endpoint's standing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, Sum

from monitoring import drift, incidents
from monitoring.incidents import Finding
from monitoring.models import LENGTH, Alert, DriftResult, Level, Rule, Standing, Verdict, WindowProfile
from monitoring.reference import document_of, reference_for
from monitoring.windows import HORIZON, judged_windows

CALM_MORE = 1
"""So many more windows must be calm than must drift."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One version's recent windows: verdicts newest first, by feature, at the level that has enough rows."""

    model: str
    version: int
    level: int
    starts: list[datetime]
    verdicts: dict[str, list[str]]
    newest: dict[str, DriftResult]

    def drifted(self, in_a_row: int, muted: list[str]) -> list[str]:
        return [key for key, found in self.verdicts.items() if key not in muted and drift.confirmed(found, in_a_row)]

    def is_calm(self, windows: int, muted: list[str], prefix: str) -> bool:
        return all(drift.calm(found, windows) for key, found in self.verdicts.items() if key.startswith(prefix) and key not in muted)


def recent_versions(endpoint: str, at: datetime) -> dict[tuple[str, int], list[tuple[int, datetime, int]]]:
    """Give (level, start, rows) of the recent windows by (model, version), slots added up; those of 5 minutes only as far back as they count. One query."""
    found: dict[tuple[str, int], list[tuple[int, datetime, int]]] = defaultdict(list)
    coarse = Q(level__in=[Level.HOUR, Level.DAY], start_at__gt=at - HORIZON[Level.DAY] - HORIZON[Level.HOUR])
    fine = Q(level=Level.FIVE_MINUTES, start_at__gt=at - HORIZON[Level.FIVE_MINUTES] - LENGTH[Level.FIVE_MINUTES])
    recent = WindowProfile.objects.filter(coarse | fine, endpoint=endpoint)
    for row in recent.values("model", "version", "level", "start_at").annotate(rows=Sum("n")).order_by("start_at"):
        found[row["model"], row["version"]].append((row["level"], row["start_at"], row["rows"]))
    return found


def update(endpoint: str, rule: Rule, *, at: datetime) -> None:
    """Open, update or calm the endpoint's drift alerts and write its standing. The endpoint's lock is held."""
    windows = recent_versions(endpoint, at)
    if not windows:
        return
    judged = [found for (model, version), rows in windows.items() if (found := _judged(endpoint, model, version, rows, rule, at))]
    for cause, prefix in ((Alert.Cause.DRIFT, "in."), (Alert.Cause.OUTPUT_DRIFT, "out.")):
        finding = _finding(endpoint, cause, prefix, judged, rule)
        if finding:
            incidents.report(endpoint, finding)
        elif judged and all(one.is_calm(rule.windows_in_a_row + CALM_MORE, rule.muted_features, prefix) for one in judged):
            incidents.calm(endpoint, cause, at)
    _stand(endpoint, judged, windows, rule, at)


def _judged(endpoint: str, model: str, version: int, rows: list[tuple[int, datetime, int]], rule: Rule, at: datetime) -> Judged | None:
    chosen = judged_windows(rows, minimum_rows=rule.minimum_rows, needed=rule.windows_in_a_row, at=at)
    if chosen is None:
        return None
    level, starts = chosen[0], chosen[1][: rule.windows_in_a_row + CALM_MORE]
    results = DriftResult.objects.filter(endpoint=endpoint, model=model, version=version, level=level, start_at__in=starts).order_by("-start_at")
    verdicts: dict[str, list[str]] = defaultdict(list)
    newest: dict[str, DriftResult] = {}
    for result in results:
        verdicts[result.feature].append(result.verdict)
        newest.setdefault(result.feature, result)
    return Judged(model, version, level, starts, verdicts, newest) if newest else None


def _finding(endpoint: str, cause: str, prefix: str, judged: list[Judged], rule: Rule) -> Finding | None:
    """Name what drifted in the version with the worst of it, by drift times importance, and all versions in which something did."""
    findings = []
    for one in judged:
        keys = [key for key in one.drifted(rule.windows_in_a_row, rule.muted_features) if key.startswith(prefix)]
        if keys:
            findings.append(_of_version(endpoint, cause, one, keys, rule))
    return incidents.worst_of(findings)


def _of_version(endpoint: str, cause: str, one: Judged, keys: list[str], rule: Rule) -> Finding:
    reference = reference_for(endpoint, one.model, one.version)
    features = document_of(reference).features if reference else {}
    weights = {key: features[key].importance if key in features else None for key in keys}
    ordered = sorted(keys, key=lambda key: -(one.newest[key].psi or 0) * (1 if weights[key] is None else weights[key] or 0))
    items: list[dict[str, Any]] = [
        {
            "name": key.partition(".")[2],
            "key": key,
            "measure": "PSI",
            "value": one.newest[key].psi,
            "limit": _limit(one.newest[key], reference.rows if reference else 0, rule),
            "severity": one.newest[key].verdict,
            "importance": weights[key],
        }
        for key in ordered
    ]
    severity = "severe" if any(item["severity"] == "severe" for item in items) else "watch"
    return Finding(
        cause=cause,
        model=one.model,
        version=one.version,
        severity=severity,
        title=_title(items, cause),
        items=items,
        level=one.level,
        first_at=one.starts[min(rule.windows_in_a_row, len(one.starts)) - 1],
        window_at=one.starts[0],
    )


def _limit(result: DriftResult, rows: int, rule: Rule) -> float:
    return drift.psi_limit(result.threshold or 0.0, result.n, rows, rule.minimum_psi)


def _title(items: list[dict[str, Any]], cause: str) -> str:
    first = f"{items[0]['name']}, PSI {items[0]['value']:.2f}"
    what = "output" if cause == Alert.Cause.OUTPUT_DRIFT else "feature"
    if len(items) == 1:
        return f"The {what} {items[0]['name']} drifted, PSI {items[0]['value']:.2f}"
    return f"{len(items)} {what}s drifted, first of all {first}"


def _stand(endpoint: str, judged: list[Judged], windows: dict[tuple[str, int], list[tuple[int, datetime, int]]], rule: Rule, at: datetime) -> None:
    """Write what lists of endpoints show: of the worst version, or of the one with the newest window when all is well."""
    if judged:
        worst = max(judged, key=lambda one: (_rank(_confirmed(one, rule)), one.starts[0]))
        values = _standing(worst, rule)
    else:
        hours = {key: max((row[1:] for row in rows if row[0] == Level.HOUR), default=rows[-1][1:]) for key, rows in windows.items()}
        (model, version), (start, count) = max(hours.items(), key=lambda item: item[1])
        text = f"{count:,} of {rule.minimum_rows:,} rows in the last hour"
        values = {"model": model, "version": version, "verdict": Verdict.TOO_FEW, "text": text, "level": None, "window_at": start}
    Standing.objects.update_or_create(endpoint=endpoint, defaults={**values, "evaluated_at": at})


def _standing(one: Judged, rule: Rule) -> dict[str, object]:
    text = _standing_text(one, rule)[:200]
    return {"model": one.model, "version": one.version, "verdict": _confirmed(one, rule), "text": text, "level": one.level, "window_at": one.starts[0]}


def _confirmed(one: Judged, rule: Rule) -> str:
    """The worst newest verdict among the features that drifted several windows in a row, else stable."""
    found = [one.newest[key].verdict for key in one.drifted(rule.windows_in_a_row, rule.muted_features)]
    return max(found, key=_rank, default=Verdict.STABLE)


def _rank(verdict: str) -> int:
    return ["stable", "watch", "severe"].index(verdict)


def _standing_text(one: Judged, rule: Rule) -> str:
    keys = sorted(one.drifted(rule.windows_in_a_row, rule.muted_features), key=lambda key: -(one.newest[key].psi or 0))
    if not keys:
        return "stable"
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0].partition('.')[2][:100]}{more}"
