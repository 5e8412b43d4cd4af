"""Monitoring: all endpoints with their verdicts, one endpoint in depth, judging it now, and its limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from access.actors import Actor
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import done, page
from console.endpoint import shown
from console.tiles import tile
from core.errors import Forbidden, Invalid, SignalboxError, Unprocessable
from monitoring import queries
from monitoring.evaluate import evaluate_now
from monitoring.faults import faults_of
from monitoring.models import Rule, Verdict
from monitoring.queries.shapes import DriftCell, DriftGrid, DriftRow, Mark, PerformanceLine, PerformanceSummary, QualityRow
from monitoring.rules import RANGES, change_rule, rule_of
from serving.queries import EndpointDetail, endpoint_detail, endpoints_page, validation_actions

_OUTCOMES = """curl -X POST {console}/api/v1/outcomes/ \\
  -H 'Authorization: Bearer <key with the scope outcomes>' -H 'Content-Type: application/json' \\
  -d '{{"outcomes": [{{"prediction_id": "<the id of the answer>", "value": "<what turned out to be true>"}}]}}'"""
HOURS = {"24": 24, "72": 72, "168": 168}
COLUMNS = 24
RECENT_COLUMNS = 8
_FROM_BEST = (Verdict.NO_DATA, Verdict.TOO_FEW, Verdict.STABLE, Verdict.WATCH, Verdict.SEVERE)
LIMITS = (
    ("alpha", "Chance of a false alarm", "share per evaluation, over all features"),
    ("minimum_psi", "Smallest shift that alarms", "PSI"),
    ("minimum_ks", "Smallest distance that alarms", "Kolmogorov-Smirnov, 0 to 1"),
    ("severe_psi", "Severe from", "PSI"),
    ("windows_in_a_row", "Windows in a row", "windows"),
    ("minimum_rows", "Fewer rows are not judged", "rows per window"),
    ("minimum_outcomes", "Fewer outcomes are not judged", "outcomes per window"),
    ("minimum_coverage", "Smallest coverage", "share of predictions with an outcome"),
    ("accuracy_drop", "Alarm when accuracy falls by", "share, below its baseline"),
    ("error_rise", "Alarm when the error rises by", "share, above its baseline"),
)


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A cell of the heat map; ``old`` ones are left out on a narrow screen."""

    cell: DriftCell | None
    old: bool


@page
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """All endpoints, what monitoring says of each, and its open alerts."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW)
    q = request.GET.get("q", "").strip()
    found = endpoints_page(cursor=request.GET.get("cursor"), search=q)
    verdicts = tile(lambda: queries.endpoint_verdicts([row.name for row in found.results]))
    rows = [(row, (verdicts.value or {}).get(row.name)) for row in found.results]
    return render(request, "monitoring/overview.html", {"rows": rows, "next": found.next, "q": q, "wrong": verdicts.wrong})


@page
@require_safe
def endpoint(request: HttpRequest, name: str) -> HttpResponse:
    """One endpoint: drift, predictions, performance, data quality, latency. Each part may fail alone."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    detail = endpoint_detail(name)
    hours, version = hours_of(request), version_of(request)
    grid = tile(lambda: queries.drift_overview(name, hours=hours, version=version, fine_when_young=hours == 24))
    context = shown(actor, detail, "monitoring") | {"name": name, "hours": str(hours), "version": version, "grid": grid}
    if grid.value is not None:
        context |= _heat(grid.value)
    context |= {"performance": tile(lambda: _performance(name, hours)), "quality": tile(lambda: queries.data_quality(name, hours, version=version))}
    context |= {"faults": tile(lambda: faults_of(name))}
    quality = context["quality"].value
    context |= {"validation": tile(lambda: validation_actions(name, hours, version=quality.version if quality else version))}
    rows = quality.rows if quality else ()
    context |= {"odd": [row for row in rows if _is_odd(row)], "plain": [row for row in rows if not _is_odd(row)]}
    context |= {"false_alarms": tile(lambda: queries.false_alarms(name))}
    context |= {"deploy_command": f"signalbox deploy {name} MODEL VERSION"}
    context |= {"outcome_command": _OUTCOMES.format(console=settings.ENVIRONMENT.console_url)}
    return render(request, "monitoring/endpoint.html", context)


@page
@require_POST
def evaluate(request: HttpRequest, name: str) -> HttpResponse:
    """Profile what waits and judge it, without waiting for the clock."""
    standing = evaluate_now(actor=request_actor(request), endpoint=name)
    text = "Nothing was predicted there yet." if standing is None else f"{name} is judged anew."
    return done(request, text, "monitoring-endpoint", name)


@page
@require_safe
def performance_series(request: HttpRequest, name: str) -> HttpResponseBase:
    """Columns for the chart of performance; immature windows are a line of their own."""
    require(request_actor(request), Right.ENDPOINT_VIEW, f"endpoint:{name}")
    series = queries.performance_series(name, hours=hours_of(request))
    lines: dict[str, Sequence[float | None]] = {}
    for line in series.lines:
        lines |= _lines_of(line)
    return JsonResponse({"t": [moment.timestamp() for moment in series.t], "lines": lines, "marks": marks_of(series.marks), "step": series.step_s})


@page
@require_http_methods(["GET", "HEAD", "POST"])
def rules(request: HttpRequest, name: str) -> HttpResponse:
    """The limits of one endpoint; a POST changes them from the next evaluation on."""
    actor = request_actor(request)
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{name}")
    detail = endpoint_detail(name)
    if request.method != "POST":
        return _rules(request, actor, detail)
    try:
        changes: dict[str, Any] = {key: _limit(key, request.POST.get(key, "")) for key in RANGES}
        changes["muted_features"] = [key for line in request.POST.get("muted_features", "").splitlines() if (key := line.strip())]
        revision = int(request.POST.get("revision", "")) if request.POST.get("revision", "").isdigit() else None
        change_rule(actor=actor, endpoint=name, changes=changes, revision=revision, reason=request.POST.get("reason", ""))
    except Forbidden:
        raise
    except SignalboxError as refusal:
        return _rules(request, actor, detail, refusal)
    return done(request, f"The limits of {name} hold from the next evaluation.", "monitoring-rules", name)


def _is_odd(row: QualityRow) -> bool:
    return bool(row.missing or row.reference_missing or row.infinite or row.below or row.above or row.unseen)


def marks_of(marks: Iterable[Mark]) -> list[dict[str, Any]]:
    """Give the changes of what answers, as charts draw them."""
    return [{"t": mark.at.timestamp(), "text": mark.text} for mark in marks]


def _heat(grid: DriftGrid) -> dict[str, Any]:
    """Inputs as rows of cells, at most 24 columns; outputs apart."""
    step = max(1, len(grid.hours) // COLUMNS)
    columns = range((len(grid.hours) - 1) % step, len(grid.hours), step)
    hours: list[tuple[datetime, bool]] = [(grid.hours[at], at < len(grid.hours) - RECENT_COLUMNS * step) for at in columns]
    rows = [(row, _cells(row, columns, [old for _, old in hours], step)) for row in grid.rows]
    return {"hours_shown": hours, "step": step, "inputs": [row for row in rows if not row[0].is_output], "outputs": [row for row in rows if row[0].is_output]}


def _cells(row: DriftRow, columns: range, old: list[bool], step: int) -> list[HeatCell]:
    """With several hours to a column, the worst of them stands for all."""
    shown = []
    for at, is_old in zip(columns, old, strict=True):
        hours = [cell for cell in row.cells[max(0, at - step + 1) : at + 1] if cell is not None]
        worst = max(hours, key=badness, default=None)
        shown.append(HeatCell(worst, is_old))
    return shown


def badness(cell: DriftCell) -> tuple[int, float]:
    """Order by the verdict, then by the size of the shift: among few rows a large one may mean nothing."""
    return _FROM_BEST.index(Verdict(cell.verdict)), cell.psi if cell.psi is not None else -1.0


def _performance(name: str, hours: int) -> list[tuple[PerformanceSummary, list[tuple[str, tuple[int, ...]]]]]:
    """Give each version's summary with the rows of its confusion matrix; nothing while no outcome has come."""
    found = queries.performance_summary(name, hours=hours)
    if not any(summary.n for summary in found):
        return []
    return [(summary, list(zip(summary.labels, summary.confusion, strict=False))) for summary in found]


def _lines_of(line: PerformanceLine) -> dict[str, Sequence[float | None]]:
    sure = [value if mature else None for value, mature in zip(line.value, line.mature, strict=True)]
    unsure = [None if mature else value for value, mature in zip(line.value, line.mature, strict=True)]
    lines: dict[str, Sequence[float | None]] = {f"v{line.version}": sure}
    if any(value is not None for value in unsure):
        lines[f"v{line.version}, too few outcomes"] = unsure
    if line.baseline is not None:
        lines[f"v{line.version} baseline"] = [line.baseline] * len(line.value)
    return lines


def hours_of(request: HttpRequest) -> int:
    """Read for how many hours the address asks; a day unless it says otherwise."""
    return HOURS.get(request.GET.get("hours", "24"), 24)


def version_of(request: HttpRequest) -> int | None:
    """Read of which version the address asks; None for the live one."""
    text = request.GET.get("version", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid(f"The version in the address must be a number, not {text[:20]!r}.")
    return int(text) if text else None


def _limit(key: str, text: str) -> float | int:
    """Read a limit as a number; the verb says whether it is in its range."""
    try:
        return int(text) if isinstance(getattr(Rule(), key), int) else float(text)
    except ValueError as error:
        raise Unprocessable(f"{key} must be a number, not {text[:40]!r}. Nothing was changed.", field=key) from error


def _refusal_words(refusal: SignalboxError | None) -> str:
    """Say why limits were refused, and name the limit as the form does."""
    if refusal is None:
        return ""
    key = str(refusal.detail.get("field", ""))
    return refusal.message.replace(key, next((f"“{title}”" for name, title, _ in LIMITS if name == key), key), 1)


def _rules(request: HttpRequest, actor: Actor, detail: EndpointDetail, refusal: SignalboxError | None = None) -> HttpResponse:
    name = detail.name
    rule = rule_of(name)
    typed = request.POST if request.method == "POST" else None
    fields = [(key, title, unit, typed.get(key, "") if typed else getattr(rule, key), *RANGES[key]) for key, title, unit in LIMITS]
    muted = typed.get("muted_features", "") if typed else "\n".join(rule.muted_features)
    context = shown(actor, detail, "monitoring") | {"name": name, "rule": rule, "fields": fields, "muted": muted}
    context |= {
        "refusal": _refusal_words(refusal),
        "wrong": refusal.detail.get("field") if refusal else "",
        "may_edit": actor.may(Right.MONITORING_EDIT, f"endpoint:{name}"),
    }
    return render(request, "monitoring/rules.html", context, status=refusal.status if refusal else 200)
