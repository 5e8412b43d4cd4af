"""Put small segments of the prediction log together, in the background, so that a day is hundreds of them and not a million."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Length

from core.clock import now
from core.ids import uuid7
from serving import segments
from serving.models import Compaction, PredictionSegment, ReplacedSegment

logger = logging.getLogger(__name__)

SETTLED = timedelta(minutes=5)
"""Younger segments are left alone: their stretch may still get more, and they are being read."""
MOST_ROWS = 20_000
MOST_BYTES = 8 * 2**20
MOST_SEGMENTS = 2000
BUDGET_S = 30.0
REMEMBERED = timedelta(days=3)
"""So long are the ids of replaced segments known: a spool that lies still for longer than that, half drained, brings one again."""
_FORGOTTEN_AT_ONCE = 5000
_PLACE = ("endpoint", "slot", "model", "version", "build_digest", "table_revision")


@dataclass(slots=True)
class _Sizes:
    """Segments and their bytes."""

    segments: int = 0
    size_bytes: int = 0


def compact_log(*, budget_s: float = BUDGET_S) -> Compaction | None:
    """Put profiled segments together by endpoint, slot, version, build and stretch of time; None when there is nothing to do.

    Each piece replaces its segments in one transaction: a reader sees them or it, and a kill at any
    moment leaves one or the other. Two runs at once take different segments.
    """
    before, after = _Sizes(), _Sizes()
    until = time.monotonic() + budget_s
    while time.monotonic() < until and _compact_next(before, after):
        pass
    if not before.segments:
        return None
    return Compaction.objects.create(
        segments_before=before.segments, segments_after=after.segments, bytes_before=before.size_bytes, bytes_after=after.size_bytes
    )


def _compact_next(before: _Sizes, after: _Sizes) -> bool:
    """Compact the oldest stretch that waits; False when none does."""
    with transaction.atomic():
        first = _waiting().order_by("last_at", "id").values("last_at", *_PLACE).first()
        if first is None:
            return False
        begin = _begin_of(first.pop("last_at"))
        group = _waiting().filter(**first, last_at__gte=begin, last_at__lt=begin + timedelta(seconds=segments.PIECE_S))
        taken = _fitting(group)
        if not taken:
            return False
        if len(taken) > 1 or taken[0][2] >= segments.PLAIN_BELOW_BYTES:
            sizes = _replace(taken)
            before.segments += len(taken)
            before.size_bytes += sum(size for _, _, size in taken)
            after.segments += sizes.segments
            after.size_bytes += sizes.size_bytes
        else:
            PredictionSegment.objects.filter(id=taken[0][0]).update(compacted=True)
    return True


def forget_replaced(*, budget_s: float = BUDGET_S) -> int:
    """Delete the ids of segments that were replaced long ago, a bounded number at a time; gives how many."""
    until = time.monotonic() + budget_s
    old = ReplacedSegment.objects.filter(at__lt=now() - REMEMBERED).order_by("at")
    deleted = 0
    while time.monotonic() < until:
        ids = list(old.values_list("id", flat=True)[:_FORGOTTEN_AT_ONCE])
        deleted += ReplacedSegment.objects.filter(id__in=ids).delete()[0]
        if len(ids) < _FORGOTTEN_AT_ONCE:
            break
    return deleted


def _waiting() -> QuerySet[PredictionSegment]:
    settled = PredictionSegment.objects.filter(compacted=False, profiled_at__isnull=False, last_at__lt=_begin_of(now() - SETTLED))
    return settled.select_for_update(skip_locked=True)


def _begin_of(at: datetime) -> datetime:
    return datetime.fromtimestamp(int(at.timestamp()) // segments.PIECE_S * segments.PIECE_S, UTC)


def _fitting(group: QuerySet[PredictionSegment]) -> list[tuple[Any, int, int]]:
    """Lock the segments of one piece, in order: (id, rows, bytes). One that is large by itself ends it."""
    taken: list[tuple[Any, int, int]] = []
    rows = size_bytes = 0
    for each in group.order_by("last_at", "id").annotate(size=Length("columns")).values_list("id", "rows", "size")[:MOST_SEGMENTS]:
        rows += each[1]
        size_bytes += each[2]
        if taken and (rows > MOST_ROWS or size_bytes > MOST_BYTES):
            break
        taken.append(each)
    return taken


def _replace(taken: list[tuple[Any, int, int]]) -> _Sizes:
    """Write the pieces and delete what they are made of; one that cannot be read stays as it is."""
    rows = list(PredictionSegment.objects.filter(id__in=[identifier for identifier, _, _ in taken]).order_by("last_at", "id"))
    read: list[tuple[PredictionSegment, pa.Table]] = []
    for row in rows:
        try:
            read.append((row, segments.read(row.columns)))
        except (pa.ArrowInvalid, OSError):
            logger.exception("Segment %s cannot be read; compaction leaves it.", row.id)
    kept = {row.id for row in rows} - {row.id for row, _ in read}
    PredictionSegment.objects.filter(id__in=kept).update(compacted=True)
    made = [_piece(rows[0], table, rows) for table in segments.joined([table for _, table in read])] if read else []
    PredictionSegment.objects.bulk_create(made)
    ReplacedSegment.objects.bulk_create([ReplacedSegment(id=row.id) for row, _ in read])
    PredictionSegment.objects.filter(id__in=[row.id for row, _ in read]).delete()
    kept_bytes = sum(size for identifier, _, size in taken if identifier in kept)
    return _Sizes(len(made) + len(kept), sum(len(piece.columns) for piece in made) + kept_bytes)


def _piece(like: PredictionSegment, table: pa.Table, rows: list[PredictionSegment]) -> PredictionSegment:
    received = table["received_at"].to_pylist()
    same = {name: getattr(like, name) for name in _PLACE}
    profiled = min(row.profiled_at for row in rows if row.profiled_at is not None)
    return PredictionSegment(
        id=uuid7(),
        **same,
        rows=table.num_rows,
        first_at=min(received),
        last_at=max(received),
        columns=segments.encode(table),
        written_at=min(row.written_at for row in rows),
        profiled_at=profiled,
        compacted=True,
    )
