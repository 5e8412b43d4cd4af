"""Tells Postgres each second that this process lives and what it serves, and writes its traffic counts."""

from __future__ import annotations

import logging
import os
import resource
import socket
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from core.clock import now
from serving.dataplane.builds import State
from serving.dataplane.engine import Engine
from serving.dataplane.memory import BuildMemory
from serving.dataplane.postgres import Away, Link
from serving.dataplane.validation_counts import ValidationCounts

logger = logging.getLogger(__name__)

_BEAT_S = 1.0
_COUNTS_EVERY = 2
_SPOOL_EVERY = 5
_UPSERT = """
INSERT INTO serving_dataplaneprocess
    (id, kind, host, pid, table_revision, ready, builds, memory_bytes, spooled_segments, lost_predictions, started_at, seen_at)
VALUES (%(id)s, %(kind)s, %(host)s, %(pid)s, %(revision)s, %(ready)s, %(builds)s, %(memory)s, %(spooled)s, %(lost)s, %(started_at)s, %(seen_at)s)
ON CONFLICT (id) DO UPDATE SET
    table_revision = EXCLUDED.table_revision, ready = EXCLUDED.ready, builds = EXCLUDED.builds, memory_bytes = EXCLUDED.memory_bytes,
    spooled_segments = EXCLUDED.spooled_segments, lost_predictions = EXCLUDED.lost_predictions, seen_at = EXCLUDED.seen_at
"""
# With hundreds of builds their states are nearly all of the row, and they seldom change.
_UPDATE = """
UPDATE serving_dataplaneprocess SET
    table_revision = %(revision)s, ready = %(ready)s, memory_bytes = %(memory)s,
    spooled_segments = %(spooled)s, lost_predictions = %(lost)s, seen_at = %(seen_at)s
WHERE id = %(id)s
"""
_FORGET = "DELETE FROM serving_dataplaneprocess WHERE id = %s OR seen_at < now() - interval '1 day'"


class Heartbeat:
    """A thread with a connection of its own."""

    def __init__(self, process: UUID, kind: str, engine: Engine, memory: BuildMemory, link: Link) -> None:
        self._kind = kind
        self._process, self._engine, self._memory, self._link = process, engine, memory, link
        self._counts = engine.counts
        self._validation = ValidationCounts(process)
        self._told: list[dict[str, Any]] = []
        self._started_at = now()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write the last counts and take the process's row away."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        beats = 0
        while not self._stopping.wait(_BEAT_S):
            beats += 1
            if beats % _SPOOL_EVERY == 1:
                self._look_for_spooled()
                self._write(self._engine.log.report)
                self._write_validation()
            self._write(self._beat)
            if beats % _COUNTS_EVERY == 0:
                self._write(self._counts.write)
                self._counts.forget_oldest()
                self._write(self._engine.accounts.write)
        self._write(self._counts.write)
        self._write(self._engine.accounts.write)
        self._write(self._engine.log.report)
        self._write_validation()
        self._write(lambda connection: connection.execute(_FORGET, [self._process]))
        self._link.close()

    def _write_validation(self) -> None:
        engine = self._engine
        self._validation.look(engine.stats)
        endpoints = engine.routes.endpoints if engine.routes else {}
        self._write(lambda connection: self._validation.write(connection, endpoints))

    def _look_for_spooled(self) -> None:
        try:
            self._engine.log.look_for_spooled()
        except OSError as error:  # say, no file can be opened just now: the process lives, and must go on saying so
            logger.warning("The spool cannot be looked at: %s", error)

    def _write(self, work: Any) -> None:
        try:
            self._link.run(work)
        except Away:
            pass  # the next beat tries again; counts are kept
        except psycopg.Error as error:
            logger.warning("Postgres refuses a heartbeat: %s", error)
        except Exception:  # the thread's edge
            logger.exception("A heartbeat failed.")

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        engine, log = self._engine, self._engine.log
        builds = self._builds()
        values = {
            "id": self._process,
            "kind": self._kind,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "revision": engine.routes.revision if engine.routes else 0,
            "ready": engine.is_ready,
            "builds": Jsonb(builds),
            "memory": _memory_bytes(),
            "spooled": log.spooled_segments,
            "lost": log.lost_predictions,
            "started_at": self._started_at,
            "seen_at": now(),
        }
        if builds == self._told and connection.execute(_UPDATE, values).rowcount:
            return
        connection.execute(_UPSERT, values)
        self._told = builds

    def _builds(self) -> list[dict[str, Any]]:
        """Say of each build whether it is in memory, what it takes there, and why it could not be loaded."""
        routes = self._engine.routes
        if routes is None:
            return []
        found = []
        for entry in routes.table.builds:
            build = self._memory.builds.get(entry.digest)
            state = build.state if build else State.UNKNOWN
            size = build.facts.memory_bytes if build and build.facts else 0
            found.append({"digest": entry.digest, "error": routes.errors.get(entry.digest, ""), "state": state, "memory_bytes": size})
        return found


def _memory_bytes() -> int:
    """Give the resident memory; where there is no /proc, the most that it has been."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
