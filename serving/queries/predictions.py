"""Reads of the prediction log: a page, newest first, and one prediction. Decodes no more segments than it needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from django.db.models import Q, QuerySet

from core.errors import Invalid, NotFound
from core.ids import time_of
from core.paging import ROWS, cursor_of, values_of_cursor
from serving.models import PredictionSegment
from serving.segments import FLAG_CACHE_HIT, FLAG_CLIPPED, FLAG_DEMO, FLAG_OUT_OF_BOUNDS, FLAG_REPLACED, FLAG_UNSEEN_CATEGORY, decode

FLAG_WORDS = {
    FLAG_OUT_OF_BOUNDS: "out of bounds",
    FLAG_UNSEEN_CATEGORY: "unseen category",
    FLAG_CLIPPED: "clipped",
    FLAG_REPLACED: "replaced",
    FLAG_CACHE_HIT: "cache hit",
    FLAG_DEMO: "demo",
}
_ODD = FLAG_OUT_OF_BOUNDS | FLAG_UNSEEN_CATEGORY | FLAG_CLIPPED | FLAG_REPLACED
# One page looks at no more than this; a filter that finds less says how far back it looked.
_MOST_SEGMENTS = 400
_MOST_ROWS_READ = 10_000
# An id is made when the request comes in, to the millisecond; the bounds of its segment are such times to the microsecond.
_NEAR = timedelta(milliseconds=50)
_LONGEST_SEGMENT = timedelta(seconds=60)
_MOST_CANDIDATES = 64
_META = ("id", "endpoint", "slot", "model", "version", "build_digest", "table_revision", "rows", "last_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFilters:
    """What to show. ``flagged``: only rows with a value that was out of bounds, unseen, clipped or replaced."""

    slot: str = ""
    version: int | None = None
    flagged: bool = False
    key_id: str = ""
    request_id: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def of_rows(self) -> bool:
        """Whether rows must be looked at to tell, not only segments."""
        return bool(self.flagged or self.key_id or self.request_id or self.since or self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answered row. Missing and non-finite values are None."""

    id: UUID
    row: int
    endpoint: str
    slot: str
    model: str
    version: int
    received_at: datetime
    latency_ms: float
    request_id: str
    key_id: str
    flags: tuple[str, ...]
    inputs: dict[str, Any]
    outputs: dict[str, Any]

    @property
    def answer(self) -> Any:
        """The output that a person looks at first: the label, else the prediction, else the first one."""
        for name in ("label", "prediction"):
            if name in self.outputs:
                return self.outputs[name]
        return next(iter(self.outputs.values()), None)


@dataclass(frozen=True, slots=True)
class PredictionDetail:
    """One answered request with all its rows, and the build and routes that answered it."""

    id: UUID
    endpoint: str
    slot: str
    model: str
    version: int
    build_digest: str
    table_revision: int
    rows: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class PredictionsPage:
    """One page. ``searched_to`` is set when a filter stopped before the end of the log; ``next`` goes on from there."""

    results: list[Prediction]
    next: str | None = None
    searched_to: datetime | None = None


def predictions_page(endpoint: str, *, filters: PredictionFilters | None = None, cursor: str | None = None, limit: int = ROWS) -> PredictionsPage:
    """Give logged rows of ``endpoint``, newest segment first, latest row of it first. Two queries, bounded work.

    Raises Invalid for a cursor that this list did not give.
    """
    wanted = filters or PredictionFilters()
    after = _Cursor.read(cursor)
    metas = list(_segments(endpoint, wanted, after).values(*_META)[:_MOST_SEGMENTS])
    chosen = _enough(metas, wanted, after, limit)
    found: list[tuple[_Cursor, Prediction]] = []
    for row in _rows_of(chosen, wanted, after):
        if len(found) == limit:
            return PredictionsPage([each for _, each in found], found[-1][0].text)
        found.append(row)
    results = [each for _, each in found]
    if len(chosen) == len(metas) < _MOST_SEGMENTS:
        return PredictionsPage(results)
    last = chosen[-1]
    return PredictionsPage(results, _Cursor(last["last_at"], last["id"], 0).text, last["last_at"])


def prediction(identifier: UUID, endpoint: str | None = None) -> PredictionDetail:
    """Give one logged request with all its rows; raises NotFound. One query, at most 64 segments around the id's time."""
    try:
        moment = time_of(identifier)
    except (ValueError, OverflowError) as error:
        raise _not_logged(identifier) from error
    around = PredictionSegment.objects.filter(last_at__gte=moment - _NEAR, last_at__lt=moment + _LONGEST_SEGMENT, first_at__lte=moment + _NEAR)
    if endpoint is not None:
        around = around.filter(endpoint=endpoint)
    for meta in around.order_by("last_at", "id").values(*_META, "columns")[:_MOST_CANDIDATES].iterator(chunk_size=4):
        table = decode(meta["columns"])
        mine = table.filter(pc.equal(table["prediction_id"], pa.scalar(identifier.bytes, pa.binary(16))))
        if mine.num_rows:
            rows = tuple(_prediction(meta, values) for values in mine.sort_by("row").to_pylist())
            return PredictionDetail(
                identifier, meta["endpoint"], meta["slot"], meta["model"], meta["version"], meta["build_digest"], meta["table_revision"], rows
            )
    raise _not_logged(identifier)


def _not_logged(identifier: UUID) -> NotFound:
    return NotFound(f"There is no logged prediction {identifier}. It may be past its retention, not sampled, or of another endpoint.")


@dataclass(frozen=True, slots=True)
class _Cursor:
    """The last row shown: its segment, and its place there. Place 0 means that the segment is done."""

    last_at: datetime
    segment: UUID
    place: int

    @property
    def text(self) -> str:
        return cursor_of([self.last_at.isoformat(), str(self.segment), self.place])

    @classmethod
    def read(cls, text: str | None) -> _Cursor | None:
        if not text:
            return None
        last_at, segment, place = values_of_cursor(text, 3)
        try:
            return cls(datetime.fromisoformat(last_at), UUID(segment), int(place))
        except (ValueError, TypeError, AttributeError) as error:
            raise Invalid("The cursor is not one that this list gave. Leave `cursor` away to begin at the newest prediction.") from error


def _segments(endpoint: str, wanted: PredictionFilters, after: _Cursor | None) -> QuerySet[PredictionSegment]:
    segments = PredictionSegment.objects.filter(endpoint=endpoint).order_by("-last_at", "-id")
    if wanted.slot:
        segments = segments.filter(slot=wanted.slot)
    if wanted.version is not None:
        segments = segments.filter(version=wanted.version)
    if wanted.since:
        segments = segments.filter(last_at__gte=wanted.since)
    if wanted.until:
        segments = segments.filter(first_at__lte=wanted.until)
    if after:
        segments = segments.filter(Q(last_at__lt=after.last_at) | Q(id__lte=after.segment), last_at__lte=after.last_at)
    return segments


def _enough(metas: list[dict[str, Any]], wanted: PredictionFilters, after: _Cursor | None, limit: int) -> list[dict[str, Any]]:
    """The first segments that together hold one row more than the page; with a filter of rows, as many as may be read."""
    most = _MOST_ROWS_READ if wanted.of_rows else limit
    rows = 0
    for count, meta in enumerate(metas, start=1):
        rows += after.place if after and meta["id"] == after.segment else meta["rows"]
        if rows > most:
            return metas[:count]
    return metas


def _rows_of(metas: list[dict[str, Any]], wanted: PredictionFilters, after: _Cursor | None) -> Iterator[tuple[_Cursor, Prediction]]:
    """The matching rows of the segments in order, each with its place."""
    ids = [meta["id"] for meta in metas]
    blobs = dict(PredictionSegment.objects.filter(id__in=ids).values_list("id", "columns"))
    for meta in metas:
        blob = blobs.pop(meta["id"], None)
        if blob is None:  # deleted since the first query
            continue
        table = decode(blob)
        rows = after.place if after and meta["id"] == after.segment else table.num_rows
        for place in _matching(table.slice(0, rows), wanted):
            values = table.slice(place, 1).to_pylist()[0]
            yield _Cursor(meta["last_at"], meta["id"], place), _prediction(meta, values)


def _matching(table: pa.Table, wanted: PredictionFilters) -> Iterable[int]:
    """The places of the rows that match, last first."""
    if not wanted.of_rows:
        return range(table.num_rows - 1, -1, -1)
    masks = []
    if wanted.flagged:
        masks.append(pc.not_equal(pc.bit_wise_and(table["flags"], pa.scalar(_ODD, pa.int32())), pa.scalar(0, pa.int32())))
    if wanted.key_id:
        masks.append(pc.equal(table["key_id"], wanted.key_id))
    if wanted.request_id:
        masks.append(pc.equal(table["request_id"], wanted.request_id))
    if wanted.since:
        masks.append(pc.greater_equal(table["received_at"], pa.scalar(wanted.since, pa.timestamp("us", tz="UTC"))))
    if wanted.until:
        masks.append(pc.less_equal(table["received_at"], pa.scalar(wanted.until, pa.timestamp("us", tz="UTC"))))
    mask = masks[0]
    for other in masks[1:]:
        mask = pc.and_(mask, other)
    places: list[int] = pc.indices_nonzero(pc.fill_null(mask, fill_value=False)).to_pylist()
    return reversed(places)


def _prediction(meta: dict[str, Any], values: dict[str, Any]) -> Prediction:
    return Prediction(
        id=UUID(bytes=values["prediction_id"]),
        row=values["row"],
        endpoint=meta["endpoint"],
        slot=meta["slot"],
        model=meta["model"],
        version=meta["version"],
        received_at=values["received_at"].astimezone(UTC),
        latency_ms=values["latency_us"] / 1000,
        request_id=values["request_id"] or "",
        key_id=values["key_id"] or "",
        flags=tuple(word for bit, word in FLAG_WORDS.items() if (values["flags"] or 0) & bit),
        inputs={name[3:]: _finite(value) for name, value in values.items() if name.startswith("in.")},
        outputs={name[4:]: _finite(value) for name, value in values.items() if name.startswith("out.")},
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value
