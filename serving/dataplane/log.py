"""The prediction log: batches are handed over by the event loop and written as segments by one thread.

Every 50 ms at most, or at once for the policy ``durable``, whose answers wait until Postgres has
committed their segment or the spool has fsynced it. What arrives during a write forms the next one.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg

from serving.dataplane import columns
from serving.dataplane.batch import Batch
from serving.dataplane.live import Slot
from serving.dataplane.postgres import Away, Link
from serving.dataplane.spool import Segment, Spool

logger = logging.getLogger(__name__)

FLUSH_S = 0.05
_DRAINED_AT_ONCE = 20
_INSERT = """
INSERT INTO serving_predictionsegment
    (id, endpoint, slot, model, version, build_digest, table_revision, rows, first_at, last_at, columns)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %b)
ON CONFLICT (id) DO NOTHING
"""
OnWritten = Callable[[bool], None]
Entry = tuple[Slot, Batch, OnWritten | None]


class PredictionLog:
    """``append`` is called by the event loop; everything else happens in the log's own thread."""

    def __init__(self, link: Link, spool: Spool) -> None:
        self._link, self._spool = link, spool
        self._entries: deque[Entry] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self.lost_predictions = 0
        self.spooled_segments = len(spool.waiting())

    def start(self) -> None:
        self._thread.start()

    def append(self, slot: Slot, batch: Batch, on_written: OnWritten | None = None) -> None:
        """Hand over an answered batch. ``on_written`` is called in the log's thread with whether it is safe."""
        self._entries.append((slot, batch, on_written))
        if on_written is not None:
            self._wake.set()

    def stop(self) -> None:
        """Write what is left and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self._turn()
        self._turn()
        self._link.close()

    def _turn(self) -> None:
        try:
            self._drain()
            self._flush()
        except Exception:  # the log's thread must outlive whatever one batch does to it
            logger.exception("Writing the prediction log failed.")

    def _flush(self) -> None:
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        if not entries:
            return
        safe = False
        try:
            safe = self._write([columns.segment_of(slot, batches) for slot, batches in _by_slot(entries)])
        finally:
            if not safe:
                self.lost_predictions += sum(len(batch.ids) for _, batch, _ in entries)
            for _, _, on_written in entries:
                if on_written is not None:
                    on_written(safe)

    def _write(self, segments: list[Segment]) -> bool:
        """Insert, or spool when Postgres is away; False when neither can be done."""
        try:
            self._link.run(lambda connection: _insert(connection, segments))
        except Away as error:
            logger.debug("Postgres is away, spooling: %s", error)
        except psycopg.Error:
            logger.exception("Postgres refuses log segments; they are spooled.")
        else:
            return True
        return self._keep(segments)

    def _keep(self, segments: list[Segment]) -> bool:
        try:
            self._spool.keep(segments)
        except OSError:
            logger.exception("The spool cannot be written: %d log segments are lost.", len(segments))
            return False
        self.spooled_segments += len(segments)
        return True

    def _drain(self) -> None:
        """Insert spooled segments, oldest first, a few at a time so that new ones do not wait."""
        if not self.spooled_segments:
            return
        with self._spool.draining() as mine:
            waiting = self._spool.waiting()
            self.spooled_segments = len(waiting)
            for path in waiting[:_DRAINED_AT_ONCE] if mine else ():
                segment = self._spool.read(path)
                if segment is None:
                    continue
                try:
                    self._link.run(lambda connection, segment=segment: _insert(connection, [segment]))  # type: ignore[misc]  # a bound default
                except Away:
                    return
                except (psycopg.DataError, psycopg.IntegrityError):
                    logger.exception("Postgres refuses the spooled segment %s; it is put aside.", segment.id)
                    self._spool.put_aside(path)
                    continue
                except psycopg.Error:
                    return
                path.unlink(missing_ok=True)

    def look_for_spooled(self) -> None:
        """Count what lies in the spool, also of processes that have died."""
        self.spooled_segments = len(self._spool.waiting())


def _insert(connection: psycopg.Connection[Any], segments: list[Segment]) -> None:
    rows = [(s.id, s.endpoint, s.slot, s.model, s.version, s.build_digest, s.table_revision, s.rows, s.first_at, s.last_at, s.columns) for s in segments]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_INSERT, rows)


def _by_slot(entries: list[Entry]) -> list[tuple[Slot, list[Batch]]]:
    groups: dict[int, tuple[Slot, list[Batch]]] = {}
    for slot, batch, _ in entries:
        groups.setdefault(id(slot), (slot, []))[1].append(batch)
    return list(groups.values())
