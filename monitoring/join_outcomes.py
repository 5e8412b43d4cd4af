"""Join outcomes to the predictions in the log: the time in the prediction's id finds the segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction

from core.clock import now
from core.ids import time_of
from monitoring.models import Level, Outcome, PerformanceWindow
from monitoring.windows import start_of
from registry.models import Version
from registry.signature import Signature
from serving import segments
from serving.models import PredictionSegment

SLACK_S = 1
PATIENCE = timedelta(days=7)
_SEGMENTS_PER_OUTCOME = 200
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class _Predicted:
    """One row of the log, as far as an outcome needs it."""

    endpoint: str
    model: str
    version: int
    slot: str
    at: datetime
    label: str | None
    probabilities: list[float] | None
    number: float | None


def join_parked(limit: int = 2000) -> int:
    """Try parked outcomes again whose time has come; gives how many were looked for."""
    due = list(Outcome.objects.filter(state=Outcome.State.PARKED, current=True, try_at__lte=now()).order_by("try_at")[:limit])
    join(due)
    return len(due)


def join(outcomes: Sequence[Outcome]) -> None:
    """Join what is in the log and mark its windows dirty; what is not found stays parked and is tried later and later."""
    for start in range(0, len(outcomes), _CHUNK):
        chunk = outcomes[start : start + _CHUNK]
        found = _predictions({row.prediction_id for row in chunk})  # before the lock: it may take its time
        signatures = _signatures({(one.model, one.version) for one in found.values()})
        with transaction.atomic():
            take_turn()
            parked = Outcome.objects.select_for_update(of=("self",)).filter(id__in=[row.id for row in chunk], state=Outcome.State.PARKED)
            _join(list(parked.select_related("batch").order_by("id")), found, signatures)


def take_turn() -> None:
    """For the rest of the transaction nobody else changes which outcome of a prediction is current."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('monitoring:outcomes'))")


def _join(rows: list[Outcome], found: Mapping[tuple[UUID, int], _Predicted], signatures: Mapping[tuple[str, int], Signature]) -> None:
    counted = {row.id for row in rows if row.current}  # those that a later value has not replaced while they waited
    for row in rows:
        predicted = found.get((row.prediction_id, row.row))
        if predicted is None:
            _park(row)
        else:
            _fit(row, predicted, signatures.get((predicted.model, predicted.version)))
    # Not bulk_update: its CASE for each of fifteen fields takes seconds for a thousand rows. They are there, and locked.
    Outcome.objects.bulk_create(rows, update_conflicts=True, unique_fields=["id"], update_fields=_JOINED_FIELDS, batch_size=500)
    _restore_before([row for row in rows if row.state == Outcome.State.REFUSED and row.id in counted])
    mark_dirty(row for row in rows if row.state == Outcome.State.JOINED)


_JOINED_FIELDS = [
    "state",
    "refusal",
    "current",
    "attempts",
    "try_at",
    "endpoint",
    "model",
    "version",
    "slot",
    "predicted_at",
    "truth",
    "label",
    "positive",
    "score",
    "number",
]


def _park(row: Outcome) -> None:
    row.attempts = min(row.attempts + 1, 1000)
    wait = min(timedelta(hours=1), timedelta(seconds=15) * 2 ** min(row.attempts, 10))
    row.try_at = now() + wait if now() - row.received_at < PATIENCE else None


def _predictions(wanted: set[UUID]) -> dict[tuple[UUID, int], _Predicted]:
    """Find the rows of the wanted predictions. Two queries, whatever the number."""
    moments = sorted({time_of(identifier) for identifier in wanted})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT found.id FROM unnest(%s::timestamptz[]) AS moment CROSS JOIN LATERAL ("
            " SELECT id FROM serving_predictionsegment WHERE last_at >= moment - make_interval(secs => %s)"
            " AND last_at <= moment + make_interval(secs => %s) AND first_at <= moment + make_interval(secs => %s)"
            " ORDER BY last_at LIMIT %s) AS found",
            [moments, SLACK_S, segments.LONGEST.total_seconds(), SLACK_S, _SEGMENTS_PER_OUTCOME],
        )
        ids = [row[0] for row in cursor.fetchall()]
    keys = {identifier.bytes: identifier for identifier in wanted}
    found: dict[tuple[UUID, int], _Predicted] = {}
    for segment in PredictionSegment.objects.filter(id__in=ids).iterator(chunk_size=200):
        found |= _rows_of(segment, keys)
    return found


def _rows_of(segment: PredictionSegment, keys: dict[bytes, UUID]) -> dict[tuple[UUID, int], _Predicted]:
    table = segments.decode(segment.columns)
    places = [(place, keys[key]) for place, key in enumerate(table["prediction_id"].to_pylist()) if key in keys]
    if not places:
        return {}
    chosen = table.take([place for place, _ in places]).to_pylist()
    return {
        (identifier, row["row"]): _Predicted(
            endpoint=segment.endpoint,
            model=segment.model,
            version=segment.version,
            slot=segment.slot,
            at=row["received_at"],
            label=None if row.get("out.label") is None else str(row["out.label"]),
            probabilities=row.get("out.probabilities"),
            number=_scalar(row.get("out.prediction")),
        )
        for (_, identifier), row in zip(places, chosen, strict=True)
    }


def _scalar(value: Any) -> float | None:
    one = value[0] if isinstance(value, list) and value else value
    return float(one) if isinstance(one, int | float) else None


def _signatures(versions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Signature]:
    names = set(versions)
    rows = Version.objects.filter(model__name__in={name for name, _ in names}, number__in={number for _, number in names}, signature__isnull=False)
    return {
        (model, number): msgspec.convert(signature, Signature)
        for model, number, signature in rows.values_list("model__name", "number", "signature")
        if (model, number) in names
    }


def _fit(row: Outcome, predicted: _Predicted, signature: Signature | None) -> None:
    """Turn the value into a class or number of the model, or say why it cannot be."""
    row.try_at = None
    row.endpoint, row.model, row.version, row.slot, row.predicted_at = predicted.endpoint, predicted.model, predicted.version, predicted.slot, predicted.at
    if row.batch.endpoints and predicted.endpoint not in row.batch.endpoints:
        _refuse(row, f"The key may not send outcomes of {predicted.endpoint}.")
    elif predicted.label is None and predicted.number is None:
        _refuse(row, f"{predicted.model} v{predicted.version} answers neither a label nor a number.")
    elif predicted.label is None:
        _fit_number(row, predicted)
    else:
        _fit_label(row, predicted, signature.labels if signature and signature.labels else ())


def _refuse(row: Outcome, reason: str) -> None:
    row.state, row.refusal, row.current = Outcome.State.REFUSED, reason[:200], False


def _fit_number(row: Outcome, predicted: _Predicted) -> None:
    number = number_in(row.value)
    if number is None:
        _refuse(row, f"value must be a number: {predicted.model} v{predicted.version} predicts numbers.")
        return
    row.state, row.number, row.score = Outcome.State.JOINED, number, predicted.number


def _fit_label(row: Outcome, predicted: _Predicted, labels: tuple[str, ...]) -> None:
    truth = label_in(row.value, labels)
    if truth is None:
        _refuse(row, f"value must be one of the classes {', '.join(labels)[:120]}.")
        return
    row.state, row.truth, row.label = Outcome.State.JOINED, truth, (predicted.label or "")[:100]
    chances = predicted.probabilities
    if not chances or len(chances) != len(labels):
        return
    if len(labels) == 2:
        row.positive, row.score = labels[1], chances[1]
    else:
        row.score = chances[labels.index(truth)]


def number_in(value: Any) -> float | None:
    """Read a finite number, also from text as CSV has it; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < 1e300 else None


def label_in(value: Any, labels: tuple[str, ...]) -> str | None:
    """Give the class that ``value`` means: ``1``, ``1.0``, ``"1"`` and, where the classes are 0 and 1, ``true`` are the same.

    Without known classes any value is one; None when it is none of them.
    """
    forms = [str(value)]
    if isinstance(value, bool):
        forms += [str(value).lower(), str(int(value))]
    elif isinstance(value, float) and value.is_integer():
        forms.append(str(int(value)))
    elif isinstance(value, int):
        forms.append(str(float(value)))
    elif isinstance(value, str) and value.endswith(".0"):
        forms.append(value[:-2])
    if not labels:
        return forms[-1 if isinstance(value, float) else 0][:100]
    return next((form for form in forms if form in labels), None)


def forget(rows: Sequence[Outcome]) -> None:
    """Make rows history, because later values came, and mark their windows dirty."""
    Outcome.objects.filter(id__in=[row.id for row in rows]).update(current=False)
    mark_dirty(row for row in rows if row.state == Outcome.State.JOINED)


def _restore_before(refused: Sequence[Outcome]) -> None:
    """A refused value does not count: the one before it is current again, joined or still to be joined."""
    for row in refused:
        before = Outcome.objects.filter(prediction_id=row.prediction_id, row=row.row).exclude(state=Outcome.State.REFUSED).order_by("-id").first()
        if before is not None:
            Outcome.objects.filter(id=before.id).update(current=True)
            mark_dirty([before])


def mark_dirty(rows: Iterable[Outcome]) -> None:
    """Mark the five-minute windows of joined outcomes to be computed again."""
    keys = sorted({(row.endpoint, row.model, row.version, start_of(row.predicted_at, Level.FIVE_MINUTES)) for row in rows if row.predicted_at})
    windows = [
        PerformanceWindow(endpoint=endpoint, model=model, version=version, level=Level.FIVE_MINUTES, start_at=start) for endpoint, model, version, start in keys
    ]
    key = ["endpoint", "model", "version", "level", "start_at"]
    PerformanceWindow.objects.bulk_create(windows, update_conflicts=True, unique_fields=key, update_fields=["dirty"])
