"""The prediction log: batches are handed over by the event loop and written as segments by one thread.

Every 50 ms at most, or at once for the policy ``durable``, whose answers wait until Postgres has
committed their segment or the spool has fsynced it. What arrives during a write forms the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from serving.dataplane import columns
from serving.dataplane.batch import Batch
from serving.dataplane.live import Slot
from serving.dataplane.postgres import Away, Link
from serving.dataplane.spool import Segment, Spool
from serving.dataplane.tally import Tally

logger = logging.getLogger(__name__)

FLUSH_S = 0.05
_PIECE_BYTES = 2**20
"""A segment ends with the batch that reaches this: a client library copies what the socket does not take at once over and over,
and holds the interpreter meanwhile."""
_BEHIND_S = 0.2
"""What Postgres has not taken of a flush by then is spooled: waiting in memory it would grow without end."""
_DRAINED_AT_ONCE, _DRAINING_S = 20, 0.2
_INSERT = """
INSERT INTO serving_predictionsegment
    (id, endpoint, slot, model, version, build_digest, table_revision, rows, first_at, last_at, columns)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %b)
ON CONFLICT (id) DO NOTHING
"""
_TAKE_BACK = """
DELETE FROM serving_predictionsegment s USING serving_replacedsegment r WHERE s.id = %s AND r.id = s.id
"""
_NONE = UUID(int=0)
OnWritten = Callable[[bool], None]
Entry = tuple[Slot, Batch, OnWritten | None]


class PredictionLog:
    """``append`` is called by the event loop; everything else happens in the log's own thread."""

    def __init__(self, link: Link, spool: Spool, tally: Tally) -> None:
        self._link, self._spool, self._tally = link, spool, tally
        self._entries: deque[Entry] = deque()
        self._writing: list[Entry] = []
        self._waiting: deque[Path] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self.spooled_segments = spool.count()

    @property
    def lost(self) -> dict[tuple[str, str], int]:
        """How many answered predictions could be written nowhere, by endpoint and slot."""
        return self._tally.lost()

    @property
    def lost_predictions(self) -> int:
        return sum(self._tally.lost().values())

    def start(self) -> None:
        self._thread.start()

    def append(self, slot: Slot, batch: Batch, on_written: OnWritten | None = None) -> None:
        """Hand over an answered batch. ``on_written`` is called in the log's thread with whether it is safe."""
        if on_written is None:
            self._tally.answered(slot.endpoint_name, slot.name, len(batch.calls))
            self._entries.append((slot, batch, None))
        else:
            self._entries.append((slot, batch, on_written))
            self._wake.set()

    def waiting(self) -> tuple[int, int | None]:
        """Give how many batches are neither in Postgres nor in the spool, and when the oldest came, in microseconds since 1970."""
        coming = self._entries.copy()  # first: what goes over to what is being written meanwhile is then counted twice, and not missed
        entries = [*self._writing, *coming]
        return len(entries), entries[0][1].calls[0][2] if entries else None

    def stop(self) -> None:
        """Write what is left and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self._turn()
        self._turn()
        self._link.close()

    def _turn(self) -> None:
        for part in (self._flush, self._drain):  # a spool that cannot be drained must not keep what is new from being written
            try:
                part()
            except Exception:  # the log's thread must outlive whatever one batch does to it
                logger.exception("Writing the prediction log failed.")

    def _flush(self) -> None:
        left = len(self._entries)
        until = time.monotonic() + _BEHIND_S
        try:
            while left:
                left -= self._take_piece(left)
                self._flush_piece(self._writing, behind=time.monotonic() > until)
        finally:
            self._writing = []

    def _take_piece(self, most: int) -> int:
        """Begin to write the oldest entries, ``most`` of them unless fewer make a segment that is large enough; gives how many. The others wait."""
        piece: list[Entry] = []
        self._writing = piece
        size = 0
        while len(piece) < most and size < _PIECE_BYTES:
            piece.append(self._entries[0])
            self._entries.popleft()
            size += _size_of(piece[-1][1])
        return len(piece)

    def _flush_piece(self, entries: list[Entry], *, behind: bool) -> None:
        segments: list[Segment] = []
        good: list[Entry] = []
        for slot, group in _by_slot(entries):
            try:
                segments.append(columns.segment_of(slot, [batch for _, batch, _ in group]))
                good += group
            except Exception:  # what one slot answered must not cost the others their log
                logger.exception("Predictions of %s %s cannot be logged.", slot.endpoint_name, slot.name)
                self._tell(group, [], safe=False)
        if segments:
            self._tell(good, segments, behind=behind)

    def _tell(self, entries: list[Entry], segments: list[Segment], *, safe: bool = True, behind: bool = False) -> None:
        """Write the segments, and say to whom it matters whether they are safe."""
        counts = _answered(entries)
        ids = {(segment.endpoint, segment.slot): segment.id for segment in segments}
        for key, predictions in counts.items():
            self._tally.begin(key, predictions, ids.get(key, _NONE))
        try:
            safe = safe and self._make_safe(segments, behind=behind)
        except Exception:  # whatever it is, the loss is counted, and who waits is told
            logger.exception("%d log segments are lost.", len(segments))
            safe = False
        for key, predictions in counts.items():
            self._tally.end(key, predictions, safe=safe)
        for _, _, on_written in entries:
            if on_written is not None:
                on_written(safe)

    def _make_safe(self, segments: list[Segment], *, behind: bool) -> bool:
        """Insert, or spool when Postgres is away; spool, or insert, when it is ``behind``. False when neither can be done."""
        ways = (self._keep, self._write) if behind else (self._write, self._keep)
        safe = any(way(segments) for way in ways)
        if not safe:
            logger.error("%d log segments are lost.", len(segments))
        return safe

    def _write(self, segments: list[Segment]) -> bool:
        try:
            self._link.run(lambda connection: _insert(connection, segments))
        except Away as error:
            logger.debug("Postgres is away: %s", error)
        except psycopg.Error:
            logger.exception("Postgres refuses log segments.")
        else:
            return True
        return False

    def _keep(self, segments: list[Segment]) -> bool:
        try:
            self._spool.keep(segments)
        except OSError:
            logger.exception("The spool cannot be written.")
            return False
        self.spooled_segments += len(segments)
        return True

    def _drain(self) -> None:
        """Insert spooled segments, oldest first, a few at a time so that new ones do not wait."""
        if not self.spooled_segments or self._link.is_away:
            return
        with self._spool.draining() as mine:
            if not mine:
                return
            if not self._waiting:  # listed once per round: after an hour without Postgres there are a hundred thousand
                self._waiting.extend(self._spool.waiting())
                self.spooled_segments = len(self._waiting)
            until = time.monotonic() + _DRAINING_S
            for _ in range(min(_DRAINED_AT_ONCE, len(self._waiting))):
                if time.monotonic() > until or not self._drain_one(self._waiting[0]):
                    return
                self._waiting.popleft()
                self.spooled_segments = max(0, self.spooled_segments - 1)

    def _drain_one(self, path: Path) -> bool:
        """Insert one spooled segment; False when Postgres takes none now."""
        try:
            segment = self._spool.read(path)
        except OSError:  # not again before the others have had their turn
            logger.exception("The spooled segment %s cannot be read now.", path.name)
            return True
        if segment is None:
            return True
        try:
            self._link.run(lambda connection: _insert_late(connection, segment))
        except (psycopg.DataError, psycopg.IntegrityError):
            logger.exception("Postgres refuses the spooled segment %s; it is put aside.", segment.id)
            self._spool.put_aside(path)
            return True
        except (Away, psycopg.Error):
            return False
        path.unlink(missing_ok=True)
        return True

    def look_for_spooled(self) -> None:
        """Count what lies in the spool, also of processes that have died."""
        self.spooled_segments = self._spool.count()
        self._spool.collect()

    def report(self, connection: psycopg.Connection[Any]) -> None:
        """Tell Postgres what is lost: here, and by processes of this machine that were killed."""
        self._tally.write(connection)
        self._tally.count_dead(self._spool, connection)

    def close(self) -> None:
        """Leave no trace of this process, if what it has lost is reported; called when its thread has ended."""
        self._tally.close()


def _insert_late(connection: psycopg.Connection[Any], segment: Segment) -> None:
    """Insert a spooled segment, unless it was inserted before and compaction has put it into another one since."""
    with connection.transaction():
        _insert(connection, [segment])
        # After the insert, which waits for a compaction that is just deleting the segment: this then sees what it has noted.
        connection.execute(_TAKE_BACK, [segment.id])


def _insert(connection: psycopg.Connection[Any], segments: list[Segment]) -> None:
    rows = [(s.id, s.endpoint, s.slot, s.model, s.version, s.build_digest, s.table_revision, s.rows, s.first_at, s.last_at, s.columns) for s in segments]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_INSERT, rows)


def _answered(entries: list[Entry]) -> dict[tuple[str, str], int]:
    """Count the predictions that were answered without waiting for the log."""
    counts: dict[tuple[str, str], int] = {}
    for slot, batch, on_written in entries:
        if on_written is None:
            key = slot.endpoint_name, slot.name
            counts[key] = counts.get(key, 0) + len(batch.calls)
    return counts


def _size_of(batch: Batch) -> int:
    """Give about how many bytes a batch has in a segment."""
    size = 0
    for array in (*batch.given.values(), *batch.outputs):
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(len(value) for value in array.flat if isinstance(value, str))
    return size


def _by_slot(entries: list[Entry]) -> list[tuple[Slot, list[Entry]]]:
    groups: dict[int, tuple[Slot, list[Entry]]] = {}
    for entry in entries:
        slot = entry[0]
        groups.setdefault(id(slot), (slot, []))[1].append(entry)
    return list(groups.values())
