"""Reads of the prediction log: a page, newest first, and one prediction. Decodes no more segments than it needs."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.db import transaction
from django.db.models import QuerySet

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import Invalid, NotFound
from core.ids import time_of
from core.paging import ROWS, cursor_of, values_of_cursor
from serving.masking import Mask, mask_for
from serving.models import PredictionSegment
from serving.segments import (
    FLAG_CLIPPED,
    FLAG_FILLED,
    FLAG_OUT_OF_BOUNDS,
    FLAG_REPLACED,
    FLAG_UNSEEN_CATEGORY,
    LONGEST,
    WORDS_OF_FLAGS,
    decode,
    shortest_of,
    singles_of,
)

_ODD = FLAG_OUT_OF_BOUNDS | FLAG_UNSEEN_CATEGORY | FLAG_CLIPPED | FLAG_REPLACED | FLAG_FILLED
# One page looks at no more than this; a filter that finds less says how far back it looked.
_MOST_SEGMENTS = 400
_MOST_ROWS_READ = 10_000
# An id is made when the request comes in, to the millisecond; the bounds of its segment are such times to the microsecond.
_NEAR = timedelta(milliseconds=50)
_MOST_CANDIDATES = 64
_TRIES = 4
_AT_ONCE = 4
_META = ("id", "endpoint", "slot", "model", "version", "build_digest", "table_revision", "rows", "first_at", "last_at")
_LAST_ID, _LAST_ROW = UUID(int=2**128 - 1), 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFilters:
    """What to show. ``flagged``: only rows with a value that was out of bounds, unseen, clipped, replaced or filled in."""

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
    """One answered row. Missing and non-finite values are None; numbers of single precision are the shortest decimals that stand for them.

    ``masked`` names the inputs that the reader may not see; they are not in ``inputs``.
    """

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
    masked: tuple[str, ...]
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


def predictions_page(*, actor: Actor, endpoint: str, filters: PredictionFilters | None = None, cursor: str | None = None, limit: int = ROWS) -> PredictionsPage:
    """Give logged rows of ``endpoint``, newest first, without the inputs that ``actor`` may not see. Two queries, and one for the policy; bounded work.

    The order is the rows' own, so a page goes on where the last one ended even if compaction has put
    their segments together meanwhile. Raises Invalid for a cursor that this list did not give.
    """
    require(actor, Right.PREDICTIONS_VIEW, f"endpoint:{endpoint}")
    mask = mask_for(actor, endpoint)
    wanted, after = filters or PredictionFilters(), _Cursor.read(cursor)
    for _ in range(_TRIES):
        metas = list(_segments(endpoint, wanted, after).values(*_META)[: _MOST_SEGMENTS + 1])
        count = _enough(metas, wanted, after, limit)
        horizon = metas[count]["last_at"] if count < len(metas) else None
        found, whole = _newest_rows(metas[:count], wanted, after, horizon, limit + 1, mask)
        if whole:  # else some were compacted, or deleted, between the two queries
            break
    if len(found) > limit:
        return PredictionsPage([each for _, each in found[:limit]], found[limit - 1][0].text)
    results = [each for _, each in found]
    if horizon is None:
        return PredictionsPage(results)
    return PredictionsPage(results, _Cursor(horizon, _LAST_ID, _LAST_ROW).text, None if results and not wanted.of_rows else horizon)


def prediction(*, actor: Actor, endpoint: str, identifier: UUID) -> PredictionDetail:
    """Give one logged request with all its rows, without the inputs that ``actor`` may not see; raises NotFound.

    One query, and one for the policy; at most 64 segments around the id's time.
    """
    require(actor, Right.PREDICTIONS_VIEW, f"endpoint:{endpoint}")
    mask = mask_for(actor, endpoint)
    try:
        moment = time_of(identifier)
    except (ValueError, OverflowError) as error:
        raise _not_logged(identifier) from error
    around = PredictionSegment.objects.filter(endpoint=endpoint, last_at__gte=moment - _NEAR, last_at__lt=moment + LONGEST, first_at__lte=moment + _NEAR)
    with _reading():
        for meta in around.order_by("last_at", "id").values(*_META, "columns")[:_MOST_CANDIDATES].iterator(chunk_size=_AT_ONCE):
            table, meta["masked"] = mask.lift_off(decode(meta["columns"]))
            mine = table.filter(pc.equal(table["prediction_id"], pa.scalar(identifier.bytes, pa.binary(16))))
            if mine.num_rows:
                return _detail(identifier, meta, mine)
    raise _not_logged(identifier)


def _detail(identifier: UUID, meta: dict[str, Any], table: pa.Table) -> PredictionDetail:
    singles = singles_of(table.schema)
    rows = tuple(_prediction(meta, values, singles) for values in table.sort_by("row").to_pylist())
    return PredictionDetail(identifier, meta["endpoint"], meta["slot"], meta["model"], meta["version"], meta["build_digest"], meta["table_revision"], rows)


def _not_logged(identifier: UUID) -> NotFound:
    return NotFound(f"There is no logged prediction {identifier}. It may be past its retention, not sampled, or of another endpoint.")


@dataclass(frozen=True, slots=True, order=True)
class _Cursor:
    """The last row shown, by what rows are ordered by."""

    at: datetime
    prediction: UUID
    row: int

    @property
    def text(self) -> str:
        return cursor_of([self.at.isoformat(), str(self.prediction), self.row])

    @classmethod
    def read(cls, text: str | None) -> _Cursor | None:
        if not text:
            return None
        at, identifier, row = values_of_cursor(text, 3)
        try:
            moment = datetime.fromisoformat(at)
            return cls(moment.astimezone(UTC), UUID(identifier), int(row))
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
        segments = segments.filter(first_at__lte=after.at, last_at__lt=after.at + LONGEST)
    return segments


def _enough(metas: list[dict[str, Any]], wanted: PredictionFilters, after: _Cursor | None, limit: int) -> int:
    """Count the first segments that surely hold one row more than the page; with a filter of rows, as many as may be read.

    Only rows that are younger than all segments beyond count, and only where none of them was shown before.
    """
    most = _MOST_ROWS_READ if wanted.of_rows else limit
    for count in range(1, min(len(metas), _MOST_SEGMENTS)):
        horizon = metas[count]["last_at"]
        read = metas[:count]
        rows = sum(meta["rows"] for meta in read if wanted.of_rows or (meta["first_at"] > horizon and (after is None or meta["last_at"] < after.at)))
        if rows > most and (after is None or horizon < after.at):
            return count
    return min(len(metas), _MOST_SEGMENTS)


_Found = tuple[_Cursor, dict[str, Any], dict[str, Any], frozenset[str]]
"""A row: its place, its segment with what is masked in it, its values, and which of these are of single precision."""


def _reading() -> AbstractContextManager[None]:
    """Read pieces in a transaction: outside of one the database makes the whole result before it gives the first (a cursor WITH HOLD)."""
    return transaction.atomic(savepoint=False)


def _newest_rows(
    metas: list[dict[str, Any]], wanted: PredictionFilters, after: _Cursor | None, horizon: datetime | None, limit: int, mask: Mask
) -> tuple[list[tuple[_Cursor, Prediction]], bool]:
    """Give the newest matching rows of the segments that come after the cursor and above the horizon, and whether no segment was gone.

    Ends with the first segment after which all others are older than what was found.
    """
    places = {meta["id"]: place for place, meta in enumerate(metas)}
    segments = PredictionSegment.objects.filter(id__in=list(places)).order_by("-last_at", "-id").values_list("id", "columns")
    found: list[_Found] = []
    expected = 0
    whole = True
    with _reading():
        for identifier, blob in segments.iterator(chunk_size=_AT_ONCE):
            place = places[identifier]
            whole = whole and place == expected
            expected = place + 1
            table, masked = mask.lift_off(decode(blob))
            table = _newest(_within(table, wanted, after, horizon), after, limit)
            found = sorted([*found, *_after(table, {**metas[place], "masked": masked}, after)], key=lambda each: each[0], reverse=True)[:limit]
            if len(found) == limit and expected < len(metas) and metas[expected]["last_at"] < found[-1][0].at:
                break
        else:
            whole = whole and expected == len(metas)
    return [(key, _prediction(meta, values, singles)) for key, meta, values, singles in found], whole


def _after(table: pa.Table, meta: dict[str, Any], after: _Cursor | None) -> Iterator[_Found]:
    singles = singles_of(table.schema)
    for values in table.to_pylist():
        key = _Cursor(values["received_at"].astimezone(UTC), UUID(bytes=values["prediction_id"]), values["row"])
        if after is None or key < after:
            yield key, meta, values, singles


def _newest(table: pa.Table, after: _Cursor | None, limit: int) -> pa.Table:
    """Give the ``limit`` newest rows below the cursor, and with them all of the cursor's and of the last one's microsecond."""
    received = table["received_at"].cast(pa.int64()).to_numpy()
    if after is not None:
        limit += int((received == _moment(after.at).cast(pa.int64()).as_py()).sum())
    if table.num_rows <= limit:
        return table
    oldest = np.partition(received, -limit)[-limit]
    return table.filter(pa.array(received >= oldest))


def _within(table: pa.Table, wanted: PredictionFilters, after: _Cursor | None, horizon: datetime | None) -> pa.Table:
    mask = mask_of(table, wanted)
    bounds = [] if after is None else [pc.less_equal(table["received_at"], _moment(after.at))]
    bounds += [] if horizon is None else [pc.greater(table["received_at"], _moment(horizon))]
    for bound in bounds:
        mask = bound if mask is None else pc.and_(mask, bound)
    return table if mask is None else table.filter(mask)


def _moment(at: datetime) -> pa.Scalar:
    return pa.scalar(at, pa.timestamp("us", tz="UTC"))


def mask_of(table: pa.Table, wanted: PredictionFilters) -> pa.ChunkedArray | None:
    """Tell which rows match the filters that are of rows; None where there is no such filter."""
    masks = []
    if wanted.flagged:
        masks.append(pc.not_equal(pc.bit_wise_and(table["flags"], pa.scalar(_ODD, pa.int32())), pa.scalar(0, pa.int32())))
    if wanted.key_id:
        masks.append(pc.equal(table["key_id"], wanted.key_id))
    if wanted.request_id:
        masks.append(pc.equal(table["request_id"], wanted.request_id))
    if wanted.since:
        masks.append(pc.greater_equal(table["received_at"], _moment(wanted.since)))
    if wanted.until:
        masks.append(pc.less_equal(table["received_at"], _moment(wanted.until)))
    return functools.reduce(pc.and_, masks) if masks else None


def _prediction(meta: dict[str, Any], values: dict[str, Any], singles: frozenset[str]) -> Prediction:
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
        flags=tuple(word for bit, word in WORDS_OF_FLAGS.items() if (values["flags"] or 0) & bit),
        inputs={name[3:]: _plain(value, single=name in singles) for name, value in values.items() if name.startswith("in.")},
        masked=meta["masked"],
        outputs={name[4:]: _plain(value, single=name in singles) for name, value in values.items() if name.startswith("out.")},
    )


def _plain(value: Any, *, single: bool) -> Any:
    """Give a value as JSON and people take it: no NaN and no infinity, which become None, and the shortest decimal of single precision."""
    if isinstance(value, float):
        return None if not math.isfinite(value) else shortest_of(value) if single else value
    if isinstance(value, list):
        return [_plain(each, single=single) for each in value]
    return value
