"""One feature's page, and the data quality of all: read from the profiles, never from the rows."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
from django.db.models import Q, Subquery

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
from monitoring.windows import end_of, in_bins_of, merged, spanning, start_of

BARS = 18
MOST_CATEGORIES = 20
_YOUNG = timedelta(hours=3)
_NAMES = {Level.FIVE_MINUTES: "the last 5 minutes", Level.HOUR: "the last hour", Level.DAY: "the last day"}


def feature_detail(endpoint: str, feature: str, *, hours: int = 24, version: int | None = None) -> FeatureDetail:
    """Compare one feature with the reference: its newest hour with traffic, and its trend over ``hours`` (at most 168).

    ``feature`` is ``age`` or ``in.age`` (``out.label`` for outputs). Raises NoSuchFeature,
    NoReference. While the version is young the trend is of 5-minute windows. Six queries; only the newest
    hour's profile is read, since one of them holds all features and has hundreds of kilobytes.
    """
    at, rule = now(), rule_of(endpoint)
    chosen = choose(endpoint, version, rule, at)
    reference = reference_for(endpoint, chosen.model, chosen.version) if chosen else None
    if chosen is None or reference is None:
        raise NoReference(f"{endpoint} has no reference to compare {feature} with: deploy a version that was registered with sample rows.")
    document = document_of(reference)
    key = key_of(feature, document)
    since = start_of(at, Level.HOUR) - timedelta(hours=min(max(1, hours), 168) - 1)
    newest, profiled = _newest_hour(endpoint, chosen, reference, since)
    results = _results(endpoint, chosen, key, since, at)
    wanted = document.features[key]
    info = info_of(reference)
    current = profiled.features.get(key)
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
        trend=_trend(wanted, results, at, rows=reference.rows, minimum_psi=rule.minimum_psi),
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


def _newest_hour(endpoint: str, chosen: Chosen, reference: Reference, since: datetime) -> tuple[datetime | None, Profile]:
    """Give the newest hour with traffic and its profile."""
    hours = WindowProfile.objects.filter(endpoint=endpoint, model=chosen.model, version=chosen.version, level=Level.HOUR, start_at__gte=since)
    rows = list(hours.filter(start_at=Subquery(hours.order_by("-start_at").values("start_at")[:1])))
    return (rows[0].start_at if rows else None), merged(rows, reference)


def _results(endpoint: str, chosen: Chosen, key: str, since: datetime, at: datetime) -> list[DriftResult]:
    """Give the hours, what is judged now, and the windows of 5 minutes that a young version has."""
    wanted = Q(level=Level.HOUR, start_at__gte=since) | Q(level=Level.FIVE_MINUTES, start_at__gte=max(since, at - _YOUNG))
    if chosen.level and chosen.starts:
        wanted |= Q(level=chosen.level, start_at=chosen.starts[0])
    found = DriftResult.objects.filter(wanted, endpoint=endpoint, model=chosen.model, version=chosen.version, feature=key)
    return list(found.order_by("start_at"))


def _judged(results: list[DriftResult], chosen: Chosen) -> DriftResult | None:
    now_judged = [one for one in results if chosen.starts and (one.level, one.start_at) == (chosen.level, chosen.starts[0])]
    hours = [one for one in results if one.level == Level.HOUR]
    return now_judged[0] if now_judged else hours[-1] if hours else None


def _current_text(newest: datetime | None, at: datetime) -> str:
    if newest is None:
        return "no traffic in these hours"
    return "this hour so far" if end_of(newest, Level.HOUR) > at else f"the hour from {newest:%Y-%m-%d %H:%M} UTC"


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


def _trend(reference: FeatureReference, results: list[DriftResult], at: datetime, *, rows: int, minimum_psi: float) -> Trend:
    hours = [one for one in results if one.level == Level.HOUR]
    is_young = bool(hours) and at - hours[0].start_at < _YOUNG
    level = Level.FIVE_MINUTES if is_young else Level.HOUR
    windows = [one for one in results if one.level == level]
    judged = [None if one.verdict == Verdict.TOO_FEW else one for one in windows]
    ribbon = {name: tuple(one.quantiles[place] if one.quantiles else None for one in windows) for place, name in enumerate(sketch.RIBBON)}
    return Trend(
        step_s=int(level),
        t=tuple(one.start_at for one in windows),
        psi=tuple(one.psi if one else None for one in judged),
        limit=tuple(drift.psi_limit(one.threshold or 0.0, one.n, rows, minimum_psi) if one else None for one in judged),
        n=tuple(one.n for one in windows),
        missing=tuple(one.missing for one in windows),
        quantiles=ribbon if reference.bins.kind == "number" else {},
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
    shares = tuple(sketch.RIBBON.values())
    middle = zip(sketch.RIBBON, sketch.quantiles(reference.sketch, shares), sketch.quantiles(current.sketch, shares), strict=True)
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
    windows = WindowProfile.objects.filter(spanning(start_of(at, Level.HOUR) - timedelta(hours=hours - 1), at))
    total = Profile()
    for row in windows.filter(endpoint=endpoint, model=chosen.model, version=chosen.version):
        total = profile.merge(total, profile.unsketched(in_bins_of(row, reference)))
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
