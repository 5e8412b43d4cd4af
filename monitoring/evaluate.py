"""Judge the windows in which rows came, and say what is wrong with the endpoint now."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from monitoring import bins, calibrate, drift, faults, find_drift, sketch
from monitoring.bins import FeatureReference
from monitoring.drift import Limits
from monitoring.errors import NoSuchEndpoint
from monitoring.measure_performance import measure_performance
from monitoring.models import DriftResult, Fault, Level, Reference, Rule, Standing, WindowProfile
from monitoring.profile import FeatureProfile, Profile
from monitoring.profile_segments import profile_segments
from monitoring.reference import document_of, reference_for
from monitoring.rules import rule_of
from monitoring.windows import lock_endpoint, merged
from serving.models import Endpoint

logger = logging.getLogger(__name__)

WINDOWS = 300
_BATCHES = 100
_BATCHES_NOW = 3  # somebody waits for the answer
_Window = tuple[int, datetime]


def evaluate_now(*, actor: Actor, endpoint: str) -> Standing | None:
    """Profile what waits there, judge ``endpoint`` and bring its alerts up to date, without waiting for the clock.

    Of a long queue only the oldest part is profiled; the rest comes with the clock.
    None when nothing was ever predicted there. Raises NoSuchEndpoint.
    """
    require(actor, Right.ENDPOINT_VIEW, f"endpoint:{endpoint}")
    if not Endpoint.objects.filter(name=endpoint).exists():
        raise NoSuchEndpoint(f"There is no endpoint {endpoint}.")
    for _ in range(_BATCHES_NOW):
        if not profile_segments(endpoint=endpoint):
            break
    evaluate_endpoint(endpoint)
    return Standing.objects.filter(endpoint=endpoint).first()


def evaluate_waiting() -> int:
    """Judge every endpoint with new rows; gives how many. For the periodic task."""
    there = WindowProfile.objects.filter(dirty=True, endpoint__in=Endpoint.objects.values("name"))
    names = list(there.order_by("endpoint").values_list("endpoint", flat=True).distinct())
    for name in names:
        try:
            evaluate_endpoint(name)
        except (OperationalError, InterfaceError, SoftTimeLimitExceeded):
            raise
        except Exception:  # one endpoint must not keep the others from being judged
            logger.exception("The endpoint %s cannot be judged; its windows wait.", name)
    return len(names)


def evaluate_endpoint(endpoint: str) -> None:
    """Judge all dirty windows of ``endpoint``, then its performance and its alerts. Safe to run twice at once."""
    for _ in range(_BATCHES):
        with transaction.atomic():
            lock_endpoint(endpoint)
            if not _judge_dirty(endpoint, rule_of(endpoint)):
                break
    measure_performance(endpoint)
    with transaction.atomic():
        lock_endpoint(endpoint)
        find_drift.update(endpoint, rule_of(endpoint), at=now())


def _judge_dirty(endpoint: str, rule: Rule) -> int:
    """Judge up to ``WINDOWS`` windows; those that are being profiled just now, or whose reference is at fault, are left for later."""
    free = WindowProfile.objects.select_for_update(skip_locked=True).filter(endpoint=endpoint, dirty=True).exclude(faults.resting(Fault.Part.JUDGE))
    by_version: dict[tuple[str, int], list[WindowProfile]] = defaultdict(list)
    for row in free.order_by("id").defer("document")[:WINDOWS]:
        by_version[row.model, row.version].append(row)
    judged: list[int] = []
    worked: list[faults.Subject] = []
    for (model, version), rows in by_version.items():
        try:
            with transaction.atomic():
                reference = reference_for(endpoint, model, version)
                if reference is not None:
                    _judge_version(endpoint, model, version, {(row.level, row.start_at) for row in rows}, reference=reference, rule=rule)
        except (OperationalError, InterfaceError, SoftTimeLimitExceeded):
            raise
        except Exception as error:  # one version's windows wait, and say why; the others are judged
            logger.exception("%s v%s at %s cannot be judged; its windows wait.", model, version, endpoint)
            faults.note(Fault.Part.JUDGE, (endpoint, model, version), error)
        else:
            judged += [row.id for row in rows]
            worked.append((endpoint, model, version))
    WindowProfile.objects.filter(id__in=judged).update(dirty=False)
    faults.forget_worked(Fault.Part.JUDGE, worked)
    return len(judged)


def _judge_version(endpoint: str, model: str, version: int, windows: Iterable[_Window], *, reference: Reference, rule: Rule) -> None:
    starts: dict[int, list[datetime]] = defaultdict(list)
    for level, start in windows:
        starts[level].append(start)
    for level, wanted in starts.items():
        gammas = calibrate.gammas_of(endpoint, model, version, level, reference)
        slots: dict[datetime, list[WindowProfile]] = defaultdict(list)
        for row in WindowProfile.objects.filter(endpoint=endpoint, model=model, version=version, level=level, start_at__in=wanted):
            slots[row.start_at].append(row)
        results = []
        for start, rows in slots.items():
            current = merged(rows, reference)
            shifts = judge_profile(current, reference, rule, gammas)
            where = {"endpoint": endpoint, "model": model, "version": version, "level": level, "start_at": start}
            results += [DriftResult(**where, feature=key, **_values(shift, current.features[key])) for key, shift in shifts.items()]
        _store(results)
        if level != Level.DAY:
            calibrate.calibrate(endpoint, model, version, level, reference)


def judge_profile(current: Profile, reference: Reference, rule: Rule, gammas: dict[str, tuple[float, float]]) -> dict[str, drift.Shift]:
    """Judge every feature that both sides have; the chance of a false alarm is shared among them."""
    features = {key: feature for key, feature in document_of(reference).features.items() if key in current.features}
    limits = Limits(
        alpha=rule.alpha / max(1, len(features)),
        minimum_psi=rule.minimum_psi,
        minimum_distance=rule.minimum_ks,
        severe_psi=rule.severe_psi,
        minimum_rows=rule.minimum_rows,
    )
    return {key: judge_feature(feature, current.features[key], limits, gammas.get(key)) for key, feature in features.items()}


def judge_feature(feature: FeatureReference, current: FeatureProfile, limits: Limits, fitted: tuple[float, float] | None = None) -> drift.Shift:
    """Judge one feature from its profile."""
    ks = sketch.ks(feature.profile.sketch, current.sketch) if feature.bins.kind == "number" else None
    before, after = bins.counts_for_test(feature, feature.profile), bins.counts_for_test(feature, current)
    return drift.judge(before, after, ks=ks, limits=limits, importance=feature.importance, fitted=fitted)


def _values(shift: drift.Shift, current: FeatureProfile) -> dict[str, Any]:
    """Give what is kept of a judged feature: the verdict, and the little of its profile that a trend shows."""
    ribbon = tuple(sketch.RIBBON.values())
    return {
        "n": shift.n,
        "psi": shift.psi,
        "ks": shift.distance,
        "statistic": shift.statistic,
        "threshold": shift.threshold,
        "p": shift.p,
        "calibrated": shift.calibrated,
        "verdict": shift.verdict,
        "missing": current.nulls / current.n if current.n else None,
        "quantiles": list(sketch.quantiles(current.sketch, ribbon)) if current.kind == "number" else None,
    }


_KEY = ["endpoint", "model", "version", "feature", "level", "start_at"]
_VALUES = ["n", "psi", "ks", "statistic", "threshold", "p", "calibrated", "verdict", "missing", "quantiles"]


def _store(results: list[DriftResult]) -> None:
    DriftResult.objects.bulk_create(results, update_conflicts=True, unique_fields=_KEY, update_fields=_VALUES, batch_size=500)
