"""Export the prediction log as CSV or Parquet, oldest prediction first, streamed piece by piece with bounded work.

What is exported is settled before the first byte: a range of time that holds no more than ``MOST_ROWS``
rows, whatever the filters leave of them. Each piece is one query for a stretch of time, so a compaction
meanwhile changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from django.db.models import QuerySet

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from core.errors import Invalid, NotFound
from serving import export_forms, segments
from serving.export_forms import FIXED, typed
from serving.masking import NOTHING, Mask
from serving.models import Endpoint, PredictionSegment
from serving.queries.predictions import PredictionFilters, mask_of

MOST_ROWS = 1_000_000
MOST_SEGMENTS = 20_000
DEFAULT_RANGE = timedelta(days=1)
_ROWS_AT_ONCE, _SEGMENTS_AT_ONCE = 50_000, 2000
_SAMPLES = 3
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Export:
    """A file on its way. ``next_since`` is set where it ends before what was asked for: ask again from there. The columns ``masked`` hold only nulls."""

    content: Iterator[bytes]
    media_type: str
    file_name: str
    next_since: datetime | None
    masked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Range:
    """From ``since`` on and before ``end``; ``samples`` are segments whose columns stand for all."""

    since: datetime
    end: datetime
    samples: list[Any]


def export_predictions(*, actor: Actor, endpoint: str, filters: PredictionFilters | None = None, form: str = "csv") -> Export:
    """Give the logged predictions between ``since`` and ``until``, by default of the last 24 hours, as ``csv`` or ``parquet``.

    Masked inputs are null unless ``actor`` may unmask them. Raises NotFound, and Invalid for another form. The audit
    log says who took what, and what of it is masked for others.
    """
    require(actor, Right.PREDICTIONS_EXPORT, f"endpoint:{endpoint}")
    policy = Endpoint.objects.filter(name=endpoint).values_list("masked_inputs", flat=True).first()
    if policy is None:
        raise NotFound(f"There is no endpoint {endpoint}. The list of endpoints has those that exist.")
    if form not in export_forms.FORMS:
        raise Invalid(f"There is no form {form!r}: choose {', '.join(export_forms.FORMS)}.", field="format")
    asked = filters or PredictionFilters()
    chosen = {name: str(value) for name in PredictionFilters.__slots__ if (value := getattr(asked, name))}
    until = asked.until or now()
    wanted = replace(asked, since=asked.since or until - DEFAULT_RANGE, until=until)
    unmasked = policy if actor.may(Right.PREDICTIONS_UNMASK, f"endpoint:{endpoint}") else []
    taken = {"filters": chosen, "format": form} | ({"unmasked": unmasked} if unmasked else {})
    audit.record(actor=actor, verb="export", subject_kind="endpoint", subject_name=endpoint, after=taken)
    mask = NOTHING if unmasked else Mask(frozenset(policy))
    span = _range_of(endpoint, wanted, until + _MICROSECOND)
    columns = _columns_of(span.samples)
    masked = tuple(column.name for column in columns if mask.hides(column))
    if masked:
        columns = columns.with_metadata({"signalbox.masked": json.dumps(masked)})
    write, media_type = export_forms.FORMS[form]
    name = f"{endpoint}-{_short(span.since)}-{_short(span.end)}.{form}"
    content = write(columns, _pieces(endpoint, wanted, span, columns, mask))
    return Export(content, media_type, name, span.end if span.end <= until else None, masked)


def _short(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _segments(endpoint: str, wanted: PredictionFilters, since: datetime, end: datetime) -> QuerySet[PredictionSegment]:
    found = PredictionSegment.objects.filter(endpoint=endpoint, last_at__gte=since, first_at__lt=end).order_by("last_at", "id")
    if wanted.slot:
        found = found.filter(slot=wanted.slot)
    return found if wanted.version is None else found.filter(version=wanted.version)


def _range_of(endpoint: str, wanted: PredictionFilters, end: datetime) -> _Range:
    """Cut the range where it holds as many rows as one export reads. One query, of no blobs."""
    since = wanted.since or end - DEFAULT_RANGE
    rows = 0
    last_at = None
    by_build: dict[tuple[str, int, str], list[Any]] = {}
    metas = _segments(endpoint, wanted, since, end).values_list("id", "last_at", "rows", "model", "version", "build_digest")
    for number, (identifier, at, count, model, version, digest) in enumerate(metas[: MOST_SEGMENTS + 1]):
        if last_at is not None and (rows + count > MOST_ROWS or number == MOST_SEGMENTS):
            end = last_at + _MICROSECOND
            break
        rows += count
        last_at = at
        by_build.setdefault((model, version, digest), []).append(identifier)
    samples = [ids[len(ids) * place // _SAMPLES] for ids in by_build.values() for place in range(_SAMPLES)]
    return _Range(since, end, samples)


def _columns_of(samples: list[Any]) -> pa.Schema:
    """Give the columns of the file: the fixed ones, then every feature and output of the builds in the range."""
    types: dict[str, pa.DataType] = {}
    for blob in PredictionSegment.objects.filter(id__in=samples).order_by("id").values_list("columns", flat=True).iterator(chunk_size=8):
        for name, kind in segments.types_of(blob).items():
            types[name] = kind if types.get(name, kind) == kind else _wider(types[name], kind)
    ordered = sorted(types, key=lambda name: name.startswith("out."))
    return pa.schema([*FIXED, *(pa.field(name, types[name]) for name in ordered)])


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Give a type for both: versions of a model may differ."""
    if pa.types.is_list(one) or pa.types.is_list(other):
        value, of_other = (kind.value_type if pa.types.is_list(kind) else kind for kind in (one, other))
        inner = value if value == of_other else _wider(value, of_other)
        return pa.string() if pa.types.is_string(inner) and value != of_other else pa.list_(inner)
    return pa.float64() if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)) else pa.string()


def _pieces(endpoint: str, wanted: PredictionFilters, span: _Range, columns: pa.Schema, mask: Mask) -> Iterator[pa.Table]:
    """Give the rows stretch by stretch; each row lies in one stretch, by the time at which it was received."""
    begin = span.since
    while begin < span.end:
        end = _end_of_piece(_segments(endpoint, wanted, begin, span.end), span.end)
        found: list[pa.Table] = []
        rows = _segments(endpoint, wanted, begin, end).values("slot", "model", "version", "table_revision", "columns")
        for meta in rows.iterator(chunk_size=16):
            table, _ = mask.lift_off(segments.decode(meta["columns"]))
            table = table.filter(mask_of(table, replace(wanted, since=begin, until=end - _MICROSECOND)))
            if table.num_rows:
                found.append(typed(segments.shortest(table), meta, columns))
        if found:
            yield pa.concat_tables(found).sort_by("received_at")
        begin = end


def _end_of_piece(rest: QuerySet[PredictionSegment], end: datetime) -> datetime:
    rows = 0
    metas = list(rest.values_list("last_at", "rows")[:_SEGMENTS_AT_ONCE])
    for at, count in metas:
        rows += count
        if rows >= _ROWS_AT_ONCE:
            return min(end, at + _MICROSECOND)
    return end if len(metas) < _SEGMENTS_AT_ONCE else min(end, metas[-1][0] + _MICROSECOND)
