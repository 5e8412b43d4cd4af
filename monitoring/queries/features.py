"""One feature's page, and the data quality of all: read from the profiles, never from the rows."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from core.clock import now
from monitoring import bins, drift, profile, sketch
from monitoring.bins import FeatureReference, ReferenceDocument
from monitoring.errors import NoReference, NoSuchFeature
from monitoring.models import DriftResult, Level, Reference, Verdict, WindowProfile
from monitoring.profile import FeatureProfile, Profile
from monitoring.queries.grid import Chosen, choose, info_of, row_of
from monitoring.queries.shapes import Comparison, DataQuality, FeatureDetail, Histogram, QualityRow, ReferenceInfo, Trend
from monitoring.reference import document_of, reference_for
from monitoring.rules import rule_of
from monitoring.windows import end_of, merged, start_of

BARS = 18
MOST_CATEGORIES = 20
_YOUNG = timedelta(hours=3)
_RIBBON = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
_NAMES = {Level.FIVE_MINUTES: "the last 5 minutes", Level.HOUR: "the last hour", Level.DAY: "the last day"}


def feature_detail(endpoint: str, feature: str, *, hours: int = 24, version: int | None = None) -> FeatureDetail:
    """Compare one feature with the reference: its newest hour with traffic, and its trend over ``hours`` (at most 168).

    ``feature`` is ``age`` or ``in.age`` (``out.label`` for outputs). Raises NoSuchFeature,
    NoReference. While the version is young the trend is of 5-minute windows. Seven queries.
    """
    at, rule = now(), rule_of(endpoint)
    chosen = choose(endpoint, version, rule, at)
    reference = reference_for(endpoint, chosen.model, chosen.version) if chosen else None
    if chosen is None or reference is None:
        raise NoReference(f"{endpoint} has no reference to compare {feature} with: deploy a version that was registered with sample rows.")
    document = document_of(reference)
    key = key_of(feature, document)
    since = start_of(at, Level.HOUR) - timedelta(hours=min(max(1, hours), 168) - 1)
    windows = _windows(endpoint, chosen, reference, since)
    newest = max(windows, default=None)
    current = windows[newest].features.get(key) if newest else None
    level, shown = Level.HOUR, windows
    if windows and at - min(windows) < _YOUNG:
        level, shown = Level.FIVE_MINUTES, _windows(endpoint, chosen, reference, since, Level.FIVE_MINUTES)
    results = _results(endpoint, chosen, key, since, level)
    wanted = document.features[key]
    info = info_of(reference)
    if info is None or current is None:
        current = FeatureProfile(kind=wanted.bins.kind)
    return FeatureDetail(
        endpoint=endpoint,
        model=chosen.model,
        version=chosen.version,
        row=row_of(key, _judged(results, chosen), document, rule),
        reference=info or ReferenceInfo("training", reference.rows, reference.created_at, ""),
        current_text=_current_text(newest, at),
        window_at=newest,
        window_level=Level.HOUR,
        histogram=histogram(wanted, current),
        trend=_trend(wanted, shown, [one for one in results if one.level == level], reference.rows, rule.minimum_psi, int(level)),
        shares=_shares(wanted, current),
        quantiles=_quantiles(wanted.profile, current),
        categories=_categories(wanted.profile, current),
    )


def key_of(feature: str, document: ReferenceDocument) -> str:
    """Find the key of a feature by key or name, inputs first; raises NoSuchFeature."""
    found = next((key for key in (feature, f"in.{feature}", f"out.{feature}") if key in document.features), None)
    if found is None:
        raise NoSuchFeature(f"There is no feature {feature!r}. There are {', '.join(one.name for one in document.features.values())[:400]}.")
    return found


def _windows(endpoint: str, chosen: Chosen, reference: Reference, since: datetime, level: Level = Level.HOUR) -> dict[datetime, Profile]:
    rows: dict[datetime, list[WindowProfile]] = defaultdict(list)
    found = WindowProfile.objects.filter(endpoint=endpoint, model=chosen.model, version=chosen.version, level=level, start_at__gte=since)
    for row in found.order_by("start_at"):
        rows[row.start_at].append(row)
    return {start: merged(slots, reference) for start, slots in rows.items()}


def _results(endpoint: str, chosen: Chosen, key: str, since: datetime, level: Level) -> list[DriftResult]:
    levels = {Level.HOUR, level, Level(chosen.level or Level.HOUR)}
    found = DriftResult.objects.filter(endpoint=endpoint, model=chosen.model, version=chosen.version, feature=key, level__in=levels, start_at__gte=since)
    return list(found.order_by("start_at"))


def _judged(results: list[DriftResult], chosen: Chosen) -> DriftResult | None:
    now_judged = [one for one in results if chosen.starts and (one.level, one.start_at) == (chosen.level, chosen.starts[0])]
    hours = [one for one in results if one.level == Level.HOUR]
    return now_judged[0] if now_judged else hours[-1] if hours else None


def _current_text(newest: datetime | None, at: datetime) -> str:
    if newest is None:
        return "no traffic in these hours"
    return "this hour so far" if end_of(newest, Level.HOUR) > at else f"the hour from {newest:%-d %b %H:%M} UTC"


def histogram(reference: FeatureReference, current: FeatureProfile) -> Histogram:
    """Give shares per bin: categories as they are, few numbers one bar each, else about 18 equal bars over the usual range.

    Bars of numbers are made from the sketches (right within 1 %); the outer ones hold what lies beyond.
    """
    if reference.bins.kind == "category":
        rows = _categories(reference.profile, current)
        return Histogram(tuple(row.name for row in rows), tuple(row.reference or 0.0 for row in rows), tuple(row.current or 0.0 for row in rows))
    edges = _bars(reference.profile, current)
    middles = tuple(_number((low + high) / 2) for low, high in pairwise(edges))
    return Histogram(middles, _bar_shares(reference.profile, edges), _bar_shares(current, edges))


def _bars(reference: FeatureProfile, current: FeatureProfile) -> list[float]:
    """Give rising edges at round numbers over the 0.5 to 99.5 % range of both sides."""
    ends = [value for side in (reference, current) for value in sketch.quantiles(side.sketch, (0.005, 0.995)) if value is not None]
    if not ends:
        return [0.0, 1.0]
    low, high = min(ends), max(ends)
    if not high > low:
        return [low - 0.5, low + 0.5]
    step = _round_step((high - low) / BARS)
    first = math.floor(low / step)
    edges = [(first + place) * step for place in range(math.ceil(high / step) - first + 1)]
    rising = np.unique(np.array(edges))
    return [float(edge) for edge in rising] if rising.size > 1 else [low, high]


def _round_step(raw: float) -> float:
    size = 10.0 ** math.floor(math.log10(raw))
    return size * next((nice for nice in (1, 2, 2.5, 5, 10) if nice * size >= raw * 0.8), 10)


def _bar_shares(side: FeatureProfile, edges: list[float]) -> tuple[float, ...]:
    if not side.valid:
        return tuple(0.0 for _ in edges[1:])
    inner = sketch.cdf(side.sketch, np.array(edges[1:-1]))
    return tuple(float(share) for share in np.diff(np.concatenate([[0.0], inner, [1.0]])))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _trend(reference: FeatureReference, windows: dict[datetime, Profile], results: list[DriftResult], rows: int, minimum_psi: float, step_s: int) -> Trend:
    """``results`` are of windows as long as those of ``windows``: ``step_s``."""
    by_start = {one.start_at: one for one in results}
    starts = tuple(sorted({*windows, *by_start}))
    profiles = [windows[start].features.get(reference.key) if start in windows else None for start in starts]
    judged = [by_start[start] if start in by_start and by_start[start].verdict != Verdict.TOO_FEW else None for start in starts]
    quantiles: dict[str, tuple[float | None, ...]] = {}
    if reference.bins.kind == "number":
        found = [sketch.quantiles(one.sketch if one else b"", tuple(_RIBBON.values())) for one in profiles]
        quantiles = {name: tuple(row[place] for row in found) for place, name in enumerate(_RIBBON)}
    return Trend(
        step_s=step_s,
        t=starts,
        psi=tuple(one.psi if one else None for one in judged),
        limit=tuple(drift.psi_limit(one.threshold or 0.0, one.n, rows, minimum_psi) if one else None for one in judged),
        n=tuple(one.n if one else 0 for one in profiles),
        missing=tuple(one.nulls / one.n if one and one.n else None for one in profiles),
        quantiles=quantiles,
    )


def _shares(reference: FeatureReference, current: FeatureProfile) -> tuple[Comparison, ...]:
    before = reference.profile
    rows = [
        ("missing", before.nulls, current.nulls),
        ("infinite", before.infinities, current.infinities),
    ]
    if reference.bins.kind == "number":
        rows += [("below the range", before.below, current.below), ("above the range", before.above, current.above)]
    else:
        rows += [("unseen", 0, bins.unseen_in(reference, current))]
    return tuple(Comparison(name, _share(left, before.n), _share(right, current.n)) for name, left, right in rows)


def _share(count: int, n: int) -> float | None:
    return count / n if n else None


def _quantiles(reference: FeatureProfile, current: FeatureProfile) -> tuple[Comparison, ...]:
    if reference.kind != "number":
        return ()
    shares = tuple(_RIBBON.values())
    middle = zip(_RIBBON, sketch.quantiles(reference.sketch, shares), sketch.quantiles(current.sketch, shares), strict=True)
    return (
        Comparison("minimum", reference.minimum, current.minimum),
        *(Comparison(name, left, right) for name, left, right in middle),
        Comparison("maximum", reference.maximum, current.maximum),
        Comparison("mean", _mean(reference), _mean(current)),
    )


def _mean(side: FeatureProfile) -> float | None:
    mean = side.total / side.valid if side.valid else math.nan
    return mean if math.isfinite(mean) else None


def _categories(reference: FeatureProfile, current: FeatureProfile) -> tuple[Comparison, ...]:
    """Give the categories that are frequent on either side, then everything else together."""
    if reference.kind != "category":
        return ()
    before, after = max(1, reference.valid), max(1, current.valid)
    names = sorted({*reference.categories, *current.categories})
    names.sort(key=lambda name: -max(reference.categories.get(name, 0) / before, current.categories.get(name, 0) / after))
    shown = names[:MOST_CATEGORIES]
    rows = [Comparison(name, reference.categories.get(name, 0) / before, current.categories.get(name, 0) / after) for name in shown]
    rest = (reference.valid - sum(reference.categories.get(name, 0) for name in shown), current.valid - sum(current.categories.get(name, 0) for name in shown))
    if any(rest):
        rows.append(Comparison("all others", max(0, rest[0]) / before, max(0, rest[1]) / after))
    return tuple(rows)


def data_quality(endpoint: str, hours: int = 24, *, version: int | None = None) -> DataQuality:
    """Give missing, infinite, out-of-range and unseen shares of the last ``hours`` (at most 168), worst first. Five queries."""
    at, hours = now(), min(max(1, hours), 168)
    chosen = choose(endpoint, version, rule_of(endpoint), at)
    reference = reference_for(endpoint, chosen.model, chosen.version) if chosen else None
    if chosen is None or reference is None:
        return DataQuality(endpoint, chosen.version if chosen else None, hours, 0, ())
    windows = _windows(endpoint, chosen, reference, start_of(at, Level.HOUR) - timedelta(hours=hours - 1))
    total = Profile()
    for window in windows.values():
        total = profile.merge(total, window)
    features = document_of(reference).features
    rows = [_quality(features[key], found) for key, found in total.features.items() if key in features and key.startswith("in.") and found.n]
    ordered = sorted(rows, key=lambda row: -(abs(row.missing - row.reference_missing) + row.infinite + row.below + row.above + row.unseen))
    return DataQuality(endpoint, chosen.version, hours, total.n, tuple(ordered))


def _quality(reference: FeatureReference, found: FeatureProfile) -> QualityRow:
    return QualityRow(
        key=reference.key,
        feature=reference.name,
        n=found.n,
        missing=found.nulls / found.n,
        reference_missing=_share(reference.profile.nulls, reference.profile.n) or 0.0,
        infinite=found.infinities / found.n,
        below=found.below / found.n,
        above=found.above / found.n,
        unseen=bins.unseen_in(reference, found) / found.n if found.kind == "category" else 0.0,
    )
