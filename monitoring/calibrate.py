"""How much an endpoint's windows jitter without drift: fitted once there are enough healthy ones."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count, Q

from core.clock import now
from monitoring import bins, drift
from monitoring.models import LENGTH, Calibration, DriftResult, Reference, Verdict, WindowProfile
from monitoring.reference import document_of
from monitoring.windows import merged

MOST_WINDOWS = 50


def gammas_of(endpoint: str, model: str, version: int, level: int, reference: Reference) -> dict[str, tuple[float, float]]:
    """Give (shape, scale) by feature; empty while uncalibrated or after the reference changed."""
    found = Calibration.objects.filter(endpoint=endpoint, model=model, version=version, level=level, reference=reference.id).first()
    return {key: (fitted[0], fitted[1]) for key, fitted in found.gammas.items()} if found else {}


def calibrate(endpoint: str, model: str, version: int, level: int, reference: Reference) -> bool:
    """Fit the gammas to the first healthy, whole windows: at 10 of them, again at 20 and 40. True if it was done now."""
    existing = Calibration.objects.filter(endpoint=endpoint, model=model, version=version, level=level).first()
    had = existing.windows if existing and existing.reference == reference.id else 0
    if had * 2 > MOST_WINDOWS:
        return False
    starts = _healthy(endpoint, model, version, level)
    if len(starts) < max(drift.REFERENCE_WINDOWS, had * 2):
        return False
    Calibration.objects.update_or_create(
        endpoint=endpoint,
        model=model,
        version=version,
        level=level,
        defaults={
            "reference": reference.id,
            "windows": len(starts),
            "gammas": _fit(endpoint, model, version, level, reference, starts),
            "made_at": now(),
        },
    )
    return True


def _healthy(endpoint: str, model: str, version: int, level: int) -> list[datetime]:
    """Give the first windows that are over and in which every feature was stable."""
    over = DriftResult.objects.filter(endpoint=endpoint, model=model, version=version, level=level, start_at__lte=now() - LENGTH[level])
    healthy = over.values("start_at").annotate(others=Count("id", filter=~Q(verdict=Verdict.STABLE))).filter(others=0)
    return list(healthy.order_by("start_at").values_list("start_at", flat=True)[:MOST_WINDOWS])


def _fit(endpoint: str, model: str, version: int, level: int, reference: Reference, starts: list[datetime]) -> dict[str, list[float]]:
    rows = WindowProfile.objects.filter(endpoint=endpoint, model=model, version=version, level=level, start_at__in=starts)
    by_start: dict[datetime, list[WindowProfile]] = {}
    for row in rows:
        by_start.setdefault(row.start_at, []).append(row)
    profiles = [merged(slots, reference) for slots in by_start.values()]
    found = {}
    for key, feature in document_of(reference).features.items():
        counts = [bins.counts_for_test(feature, window.features[key]) for window in profiles if key in window.features]
        fitted = drift.fit_gamma(drift.leave_one_out(counts)) if counts else None
        if fitted:
            found[key] = list(fitted)
    return found
