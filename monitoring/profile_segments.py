"""Profile the prediction log: every segment exactly once, at all levels, in one transaction."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q

from core.clock import now
from monitoring import faults, profile
from monitoring.faults import Subject
from monitoring.models import Fault, Level, Reference, WindowProfile
from monitoring.profile import Profile
from monitoring.reference import document_of, reference_for
from monitoring.windows import in_bins_of, start_of
from serving import segments
from serving.models import PredictionSegment

logger = logging.getLogger(__name__)

SEGMENTS = 2000
ROWS = 200_000


@dataclass(frozen=True, slots=True, order=True)
class _Source:
    """Where rows come from; the rows of one source share their bins."""

    endpoint: str
    model: str
    version: int
    slot: str


_Key = tuple[_Source, int, datetime]


def profile_segments(*, limit: int = SEGMENTS, endpoint: str | None = None) -> int:
    """Profile up to ``limit`` segments (of ``endpoint`` alone, if named) that nobody else is profiling; gives how many, 0 when nothing waits.

    The flags of the segments and the windows change together, so a crash loses and doubles nothing.
    A segment that cannot be profiled is logged and left out, and does not come again. Where a version's
    reference is at fault, its segments stay and are tried again later (``monitoring.faults``).
    """
    with transaction.atomic():
        batch = _Batch(_take(limit, endpoint))
        batch.profile(list(batch.taken))
        PredictionSegment.objects.filter(id__in=batch.done).update(profiled_at=now())
        for subject, error in batch.faults.items():
            faults.note(Fault.Part.PROFILE, subject, error)
        faults.forget_worked(Fault.Part.PROFILE, {batch.taken[one] for one in batch.done} - set(batch.faults))
    return len(batch.done)


class _Batch:
    """Some segments on their way: ``done`` are profiled or left out for good, those of ``faults`` wait."""

    def __init__(self, taken: dict[UUID, Subject]) -> None:
        self.taken = taken
        self.done: list[UUID] = []
        self.faults: dict[Subject, Exception] = {}

    def profile(self, some: list[UUID]) -> None:
        """Profile them together; when that fails, each half by itself, until what fails is alone."""
        some = [one for one in some if self.taken[one] not in self.faults]
        if not some:
            return
        try:
            with transaction.atomic():
                _profile_together(some)
        except (OperationalError, InterfaceError, SoftTimeLimitExceeded):
            raise  # no segment's fault: everything is tried again later
        except Exception as error:  # one segment's values may be anything; the others are profiled
            if len(some) > 1:
                half = len(some) // 2
                self.profile(some[:half])
                self.profile(some[half:])
            elif _works_without_reference(some[0]):
                logger.exception("The reference of %s is at fault; its segments wait.", self.taken[some[0]])
                self.faults[self.taken[some[0]]] = error
            else:
                logger.exception("Segment %s cannot be profiled and is left out.", some[0])
                self.done += some
        else:
            self.done += some


def _works_without_reference(segment: UUID) -> bool:
    """Try, and leave nothing behind."""
    try:
        with transaction.atomic():
            _profile_together([segment], compared=False)
            transaction.set_rollback(True)
    except (OperationalError, InterfaceError, SoftTimeLimitExceeded):
        raise
    except Exception:  # whether it raises is the question
        logger.debug("Segment %s fails without a reference, too.", segment, exc_info=True)
        return False
    return True


def _profile_together(taken: list[UUID], *, compared: bool = True) -> None:
    tables = _tables(PredictionSegment.objects.filter(id__in=taken))
    references = {source: reference_for(source.endpoint, source.model, source.version) if compared else None for source in tables}
    profiles: dict[_Key, Profile] = {}
    for source, pieces in tables.items():
        _profile(source, pieces, references[source], profiles)
    _store(profiles, references)


def _take(limit: int, endpoint: str | None) -> dict[UUID, Subject]:
    """Lock the oldest unprofiled segments that are free, at most ``ROWS`` rows (but one segment at least)."""
    waiting = PredictionSegment.objects.select_for_update(skip_locked=True).filter(profiled_at__isnull=True).exclude(faults.resting(Fault.Part.PROFILE))
    if endpoint is not None:
        waiting = waiting.filter(endpoint=endpoint)
    taken: dict[UUID, Subject] = {}
    rows = 0
    for identifier, size, name, model, version in waiting.order_by("id").values_list("id", "rows", "endpoint", "model", "version")[:limit]:
        if taken and rows + size > ROWS:
            break
        taken[identifier] = (name, model, version)
        rows += size
    return taken


def _tables(waiting: Any) -> dict[_Source, list[pa.Table]]:
    found: dict[_Source, list[pa.Table]] = defaultdict(list)
    for segment in waiting.order_by("id").iterator(chunk_size=200):
        try:
            table = segments.decode(segment.columns)
        except (pa.ArrowInvalid, OSError):
            logger.exception("Segment %s cannot be read and is left out.", segment.id)
            continue
        found[_Source(segment.endpoint, segment.model, segment.version, segment.slot)].append(table)
    return found


def _profile(source: _Source, pieces: list[pa.Table], reference: Reference | None, into: dict[_Key, Profile]) -> None:
    bins = document_of(reference).bins if reference else {}
    same: dict[str, list[pa.Table]] = defaultdict(list)
    for piece in pieces:
        same[str(piece.schema)].append(piece)
    for group in same.values():
        table = pa.concat_tables(group).combine_chunks()
        for start, rows in _by_window(table):
            made = profile.profile_of(rows, bins)
            for level in Level:
                key = (source, level.value, start_of(start, level))
                into[key] = profile.merge(into[key], made) if key in into else made


def _by_window(table: pa.Table) -> list[tuple[datetime, pa.Table]]:
    """Split rows by the five-minute window in which they were received."""
    micros = table["received_at"].cast(pa.int64()).to_numpy()
    starts = micros // (Level.FIVE_MINUTES * 1_000_000) * Level.FIVE_MINUTES
    found = np.unique(starts)
    if found.size == 1:
        return [(_moment(found[0]), table)]
    return [(_moment(start), table.filter(pc.equal(pa.array(starts), start))) for start in found]


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _store(profiles: dict[_Key, Profile], references: dict[_Source, Reference | None]) -> None:
    """Merge into the windows. Rows are made and locked in one order by everybody, so nobody waits in a circle."""
    if not profiles:
        return
    keys = sorted(profiles)
    WindowProfile.objects.bulk_create([_window(key, references[key[0]]) for key in keys], ignore_conflicts=True)
    wanted = Q()
    for key in keys:
        wanted |= Q(**_fields(key))
    rows = list(WindowProfile.objects.select_for_update().filter(wanted).order_by("id"))
    for row in rows:
        source = _Source(row.endpoint, row.model, row.version, row.slot)
        reference = references[source]
        total = profile.merge(in_bins_of(row, reference), profiles[source, row.level, row.start_at])
        row.document, row.n, row.dirty = profile.encode(total), total.n, True
        row.reference = reference.id if reference else None
    WindowProfile.objects.bulk_update(rows, ["document", "n", "dirty", "reference"], batch_size=100)


def _fields(key: _Key) -> dict[str, Any]:
    source, level, start = key
    return {"endpoint": source.endpoint, "model": source.model, "version": source.version, "slot": source.slot, "level": level, "start_at": start}


def _window(key: _Key, reference: Reference | None) -> WindowProfile:
    return WindowProfile(**_fields(key), reference=reference.id if reference else None)
