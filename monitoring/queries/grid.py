"""The drift heat map: every feature of a version by hour, worst first, and what is said of now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import NamedTuple

from django.db.models import Q
from django.db.models.functions import Extract

from core.clock import now
from monitoring import drift
from monitoring.bins import FeatureReference, ReferenceDocument
from monitoring.find_drift import recent_versions
from monitoring.models import LENGTH, DriftResult, Level, Reference, Rule, Verdict
from monitoring.queries.shapes import DriftCell, DriftGrid, DriftRow, ReferenceInfo
from monitoring.reference import document_of, reference_for
from monitoring.rules import rule_of
from monitoring.windows import judged_windows, start_of
from serving.models import Slot

_RANK = {Verdict.SEVERE: 3, Verdict.WATCH: 2, Verdict.STABLE: 1, Verdict.TOO_FEW: 0, Verdict.NO_DATA: -1}
_TEXT = {
    Verdict.STABLE: "No feature drifted.",
    Verdict.TOO_FEW: "Not enough data yet.",
    Verdict.NO_DATA: "Nothing was predicted in these hours.",
}
_FINE_COLUMNS = 24
_LEVEL_NAMES = {Level.FIVE_MINUTES: "5 minutes", Level.HOUR: "hour", Level.DAY: "day"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The version that is shown, and the windows that are judged now."""

    model: str
    version: int
    versions: tuple[int, ...]
    level: int | None
    starts: tuple[datetime, ...]
    window_n: int
    newest: datetime | None


class Result(NamedTuple):
    """A verdict, as far as a page needs it. Of a week there are thousands, and objects of the table's class would cost most of the page."""

    start_at: datetime
    feature: str
    level: int
    n: int
    psi: float | None
    ks: float | None
    statistic: float | None
    threshold: float | None
    calibrated: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class Known:
    """What several reads of one endpoint begin with: its limits and its recent windows by (model, version)."""

    rule: Rule
    windows: dict[tuple[str, int], list[tuple[int, datetime, int]]]


def known_of(endpoint: str) -> Known:
    """Read it once for a page with several parts. Two queries."""
    return Known(rule_of(endpoint), recent_versions(endpoint, now()))


def drift_overview(endpoint: str, hours: int = 24, *, version: int | None = None, known: Known | None = None, fine_when_young: bool = False) -> DriftGrid:
    """Give the grid of ``hours`` hours up to now (at most 168), of ``version`` or the live one.

    With ``fine_when_young`` a version without traffic before the last two hours is shown in the
    5-minute windows of these two. Five queries, three with ``known``; fewer when there is nothing to show.
    """
    at, known = now(), known or known_of(endpoint)
    rule = known.rule
    starts = _starts(at, min(max(1, hours), 168), Level.HOUR)
    chosen = choose(endpoint, version, rule, at, windows=known.windows)
    if chosen is None:
        return _empty(endpoint, starts, rule)
    reference = reference_for(endpoint, chosen.model, chosen.version)
    level = Level.HOUR
    if fine_when_young and _is_young(chosen, known, at):
        level, starts = Level.FIVE_MINUTES, _starts(at, _FINE_COLUMNS, Level.FIVE_MINUTES)
    results = _results(endpoint, chosen, starts[0], level)
    document = document_of(reference) if reference else None
    rows = _rows(chosen, results, document, rule, starts, level)
    verdict = max((row.verdict for row in rows if not row.muted), key=_rank, default=Verdict.TOO_FEW if chosen.newest else Verdict.NO_DATA)
    return DriftGrid(
        endpoint=endpoint,
        model=chosen.model,
        version=chosen.version,
        versions=chosen.versions,
        hours=starts,
        step_s=int(LENGTH[level].total_seconds()),
        rows=rows,
        verdict=str(verdict),
        text=_sentence(verdict, rows, chosen, rule, has_reference=reference is not None),
        window_at=chosen.starts[0] if chosen.starts else None,
        window_level=chosen.level,
        window_n=chosen.window_n,
        needed_n=rule.minimum_rows,
        reference=info_of(reference),
        calibrated=any(row.calibrated for row in rows),
        promise=promise_of(rule, chosen.level or Level.HOUR, calibrated=any(row.calibrated for row in rows)),
        importance_text=_importance_text(document),
    )


def output_psi(endpoint: str, versions: Collection[tuple[str, int]], *, known: Known | None = None) -> dict[tuple[str, int], float | None]:
    """Give the largest PSI among the outputs of each (model, version) in its newest judged window; None where none is. One query with ``known``."""
    at, known = now(), known or known_of(endpoint)
    newest: dict[tuple[str, int], tuple[int, datetime]] = {}
    for key in versions:
        judged = judged_windows(known.windows.get(key, []), minimum_rows=known.rule.minimum_rows, needed=known.rule.windows_in_a_row, at=at)
        if judged:
            newest[key] = judged[0], judged[1][0]
    found: dict[tuple[str, int], float | None] = dict.fromkeys(versions)
    wanted = [Q(model=model, version=version, level=level, start_at=start) for (model, version), (level, start) in newest.items()]
    if not wanted:
        return found
    results = DriftResult.objects.filter(reduce(or_, wanted), endpoint=endpoint, feature__startswith="out.", psi__isnull=False)
    for model, version, psi in results.exclude(verdict=Verdict.TOO_FEW).values_list("model", "version", "psi"):
        found[model, version] = max(psi or 0.0, found[model, version] or 0.0)
    return found


def _starts(at: datetime, windows: int, level: Level) -> tuple[datetime, ...]:
    newest = start_of(at, level)
    return tuple(newest - back * LENGTH[level] for back in range(windows - 1, -1, -1))


def _is_young(chosen: Chosen, known: Known, at: datetime) -> bool:
    """Tell whether all the known traffic of the version came within the hours of the fine columns."""
    hours = [start for level, start, _ in known.windows.get((chosen.model, chosen.version), []) if level == Level.HOUR]
    return bool(hours) and min(hours) >= start_of(_starts(at, _FINE_COLUMNS, Level.FIVE_MINUTES)[0], Level.HOUR)


def choose(
    endpoint: str, version: int | None, rule: Rule, at: datetime, *, windows: dict[tuple[str, int], list[tuple[int, datetime, int]]] | None = None
) -> Chosen | None:
    """Choose the version to show: the named one, else the live one, else the one with the newest traffic. Two queries at most."""
    windows = recent_versions(endpoint, at) if windows is None else windows
    slots = Slot.objects.filter(endpoint__name=endpoint, build__isnull=False).select_related("build__version__model", "endpoint")
    filled = [(slot.build.version.model.name, slot.build.version.number, slot.name == slot.endpoint.live_slot) for slot in slots if slot.build]
    keys = {*windows, *((model, number) for model, number, _ in filled)}
    if not keys:
        return None
    live = {(model, number) for model, number, is_live in filled if is_live}
    wanted = {key for key in keys if version is None or key[1] == version}
    if not wanted:
        return None
    key = max(wanted, key=lambda one: (one in live, max((row[1] for row in windows.get(one, [])), default=datetime.min.replace(tzinfo=at.tzinfo)), one))
    rows = windows.get(key, [])
    judged = judged_windows(rows, minimum_rows=rule.minimum_rows, needed=rule.windows_in_a_row, at=at)
    level, starts = judged or (None, [])
    sizes = {(row[0], row[1]): row[2] for row in rows}
    newest = max((row[1] for row in rows if row[0] == Level.HOUR), default=None)
    size = sizes.get((level, starts[0]), 0) if level and starts else sizes.get((Level.HOUR, newest), 0) if newest else 0
    return Chosen(key[0], key[1], tuple(sorted({number for _, number in keys}, reverse=True)), level, tuple(starts), size, newest)


def _results(endpoint: str, chosen: Chosen, since: datetime, level: Level) -> list[Result]:
    """Give the windows of the grid and the newest judged ones, in one query."""
    wanted = Q(level=level, start_at__gte=since)
    if chosen.level and chosen.starts:
        wanted |= Q(level=chosen.level, start_at=chosen.starts[0])
    found = DriftResult.objects.filter(wanted, endpoint=endpoint, model=chosen.model, version=chosen.version)
    seconds = Extract("start_at", "epoch")  # as a number it is read in a third of the time
    return [Result(datetime.fromtimestamp(float(start), UTC), *rest) for start, *rest in found.values_list(seconds, *Result._fields[1:])]


def _rows(
    chosen: Chosen, results: list[Result], document: ReferenceDocument | None, rule: Rule, starts: tuple[datetime, ...], level: Level
) -> tuple[DriftRow, ...]:
    cells: dict[str, dict[datetime, Result]] = defaultdict(dict)
    current: dict[str, Result] = {}
    for result in results:
        if result.level == level:
            cells[result.feature][result.start_at] = result
        if chosen.level and chosen.starts and (result.level, result.start_at) == (chosen.level, chosen.starts[0]):
            current[result.feature] = result
    keys = document.features if document else {**cells, **current}
    rows = [row_of(key, current.get(key) or _newest(cells[key]), document, rule, _cells(cells[key], starts, rule)) for key in keys]
    return tuple(sorted(rows, key=_worst_first))


def _newest(cells: dict[datetime, Result]) -> Result | None:
    return cells[max(cells)] if cells else None


def _cells(found: dict[datetime, Result], starts: tuple[datetime, ...], rule: Rule) -> tuple[DriftCell | None, ...]:
    return tuple(_cell(found[start], rule) if start in found else None for start in starts)


def _cell(result: Result, rule: Rule) -> DriftCell:
    too_few = result.verdict == Verdict.TOO_FEW
    return DriftCell(result.start_at, result.n, None if too_few else result.psi, result.verdict, _result_text(result, rule))


def _result_text(result: Result | DriftResult, rule: Rule) -> str:
    if result.verdict == Verdict.TOO_FEW:
        return f"{result.n:,} of {rule.minimum_rows:,} rows"
    return f"PSI {result.psi or 0:.2f}, {result.n:,} rows"


def row_of(key: str, result: Result | DriftResult | None, document: ReferenceDocument | None, rule: Rule, cells: tuple[DriftCell | None, ...] = ()) -> DriftRow:
    """Make a feature's row from its newest judged window, or say that there is none."""
    feature = document.features.get(key) if document else None
    judged = result is not None and result.verdict != Verdict.TOO_FEW
    return DriftRow(
        key=key,
        feature=key.partition(".")[2],
        role="input" if key.startswith("in.") else "output",
        kind=feature.bins.kind if feature else "number",
        importance=feature.importance if feature else None,
        n=result.n if result else 0,
        psi=result.psi if result and judged else None,
        ks=result.ks if result and judged else None,
        statistic=result.statistic if result and judged else None,
        threshold=result.threshold if result and judged else None,
        limit=_limit(result, feature, rule) if result and judged and feature else None,
        calibrated=bool(result and result.calibrated),
        verdict=result.verdict if result else Verdict.NO_DATA.value,
        text=_result_text(result, rule) if result else "no data",
        muted=key in rule.muted_features,
        cells=cells,
    )


def _limit(result: Result | DriftResult, reference: FeatureReference, rule: Rule) -> float:
    """Give the PSI at which the window would alarm."""
    return drift.psi_limit(result.threshold or 0.0, result.n, reference.profile.n, rule.minimum_psi)


def _worst_first(row: DriftRow) -> tuple[float, ...]:
    weight = 1.0 if row.importance is None else row.importance
    return (row.muted, -_rank(row.verdict), -(row.psi or 0) * weight, -(row.psi or 0))


def _rank(verdict: str) -> int:
    return _RANK[Verdict(verdict)]


def _sentence(verdict: str, rows: tuple[DriftRow, ...], chosen: Chosen, rule: Rule, *, has_reference: bool) -> str:
    if not has_reference:
        return f"v{chosen.version} has no reference: register it again with sample rows."
    if verdict == Verdict.TOO_FEW:
        return f"Not enough data: {chosen.window_n:,} of {rule.minimum_rows:,} rows."
    drifted = [row for row in rows if row.verdict in (Verdict.WATCH, Verdict.SEVERE) and not row.muted]
    if drifted:
        count = "1 column differs" if len(drifted) == 1 else f"{len(drifted)} columns differ"
        window = _LEVEL_NAMES[Level(chosen.level or Level.HOUR)]
        lasting = f" Lists and alerts wait for {rule.windows_in_a_row} such windows in a row." if rule.windows_in_a_row > 1 else ""
        return f"{count} from the reference in the last {window}, first of all {drifted[0].feature} (PSI {drifted[0].psi or 0:.2f}).{lasting}"
    return _TEXT[Verdict(verdict)]


def reference_info(endpoint: str, model: str, version: int) -> ReferenceInfo | None:
    """Tell what a version is compared with at ``endpoint``. Two queries at most, once its reference is made."""
    return info_of(reference_for(endpoint, model, version))


def info_of(reference: Reference | None) -> ReferenceInfo | None:
    """Describe a reference."""
    if reference is None:
        return None
    text = f"{reference.rows:,} training rows"
    if reference.from_at and reference.until_at:
        text = f"{reference.rows:,} rows of traffic, {reference.from_at:%Y-%m-%d} to {reference.until_at:%Y-%m-%d}"
    return ReferenceInfo(reference.source, reference.rows, reference.created_at, text)


def promise_of(rule: Rule, level: int, *, calibrated: bool) -> str:
    """Say how often an alert is expected without drift."""
    per_day = timedelta(days=1) / LENGTH[level]
    a_year = drift.false_alarms_per_year(rule.alpha, rule.windows_in_a_row, per_day)
    often = f"at most about one false alert in {_span(365 / a_year)}" if a_year else "no false alert"
    basis = "calibrated on this endpoint's own windows" if calibrated else "uncalibrated: by the chi-squared alone until 10 healthy windows are seen"
    return f"{often[0].upper()}{often[1:]}; {basis}."


def _span(days: float) -> str:
    if days >= 730:
        return f"{days / 365:.0f} years"
    if days >= 14:
        return f"{days / 7:.0f} weeks"
    return f"{days:.0f} days" if days >= 2 else f"{max(1, round(days * 24))} hours"


def _importance_text(document: ReferenceDocument | None) -> str:
    if document is None or not document.importance_of:
        return "Ranked by the size of the shift alone: the reference has no output to associate the features with."
    return f"Importance is the association with {document.importance_of.partition('.')[2]} in the training sample, as a share of all features."


def _empty(endpoint: str, starts: tuple[datetime, ...], rule: Rule) -> DriftGrid:
    return DriftGrid(
        endpoint=endpoint,
        model="",
        version=None,
        versions=(),
        hours=starts,
        step_s=3600,
        rows=(),
        verdict=Verdict.NO_DATA.value,
        text=_TEXT[Verdict.NO_DATA],
        window_at=None,
        window_level=None,
        window_n=0,
        needed_n=rule.minimum_rows,
        reference=None,
        calibrated=False,
        promise=promise_of(rule, Level.HOUR, calibrated=False),
        importance_text="",
    )
