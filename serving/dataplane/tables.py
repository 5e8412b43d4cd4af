"""Follows the published route table: LISTEN and a poll each second. A new build is loaded and warm before it answers.

The last table and its builds are kept on disk: a restart without Postgres answers from them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from serving import table as route_table
from serving.dataplane.builds import Build, Builds, CompiledBuild, State
from serving.dataplane.engine import Engine
from serving.dataplane.limits import has_budget
from serving.dataplane.live import Routes
from serving.dataplane.memory import BuildMemory, Role, give_back
from serving.dataplane.postgres import Away, Link
from serving.table import EndpointEntry, Reader, RouteTable

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_RETRY_FAILED_S = 5.0
_LOADING_HOLDS_UP_S = 0.5
"""So long does a table wait for its builds to be loaded. Then it is taken without them, so that none keeps a roll back waiting."""
_LATEST = """
SELECT revision, CASE WHEN revision <> %s THEN document END FROM serving_publishedtable ORDER BY revision DESC LIMIT 1
"""


class TableFollower:
    """A thread that keeps ``engine.routes`` at the newest published table."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, link: Link, folder: Path, memory: BuildMemory) -> None:
        self._engine, self._loop, self._link, self._memory = engine, loop, link, memory
        self._table_file = folder / "table.json"
        self._reader = Reader()
        self._builds = Builds()
        self._table: RouteTable | None = None
        self._changes = 0
        self._retry_at = 0.0
        self._listening: psycopg.Connection[Any] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="route-table", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:  # the thread must outlive whatever one table does to it
                logger.exception("Following the route table failed; the last table stays.")
                self._stopping.wait(_POLL_S)

    def _turn(self) -> None:
        try:
            table = self._link.run(self._poll, timeout_s=_POLL_S + 2)
        except (Away, psycopg.Error) as error:
            table = None
            if self._table is None:
                logger.warning("No route table from Postgres (%s); looking on disk.", error)
                self._adopt_kept()
            self._stopping.wait(_POLL_S)
        if table is not None:
            self._adopt(table)
            self._keep(table)
        elif self._table is not None:
            self._look_at_the_builds(self._table)

    def _look_at_the_builds(self, table: RouteTable) -> None:
        """Answer with what has been loaded since the table was taken; try again what failed."""
        if self._memory.look_for_crashes() or self._changes != self._memory.changes:
            self._adopt(table)
        elif time.monotonic() > self._retry_at:
            self._memory.load(self._memory.failed())
            self._retry_at = time.monotonic() + _RETRY_FAILED_S

    def _poll(self, connection: psycopg.Connection[Any]) -> RouteTable | None:
        """Give a table that is not ours yet, at once; else wait for a hint for a second."""
        if self._listening is not connection:
            connection.execute(f"LISTEN {route_table.CHANNEL}")
            self._listening = connection
        newest = self._read(connection)
        if newest is None and self._table is not None:
            for _ in connection.notifies(timeout=_POLL_S, stop_after=1):
                pass
            newest = self._read(connection)
        return newest

    def _read(self, connection: psycopg.Connection[Any]) -> RouteTable | None:
        known = self._table.revision if self._table is not None else -1
        row = connection.execute(_LATEST, [known]).fetchone()
        if row is None:
            return RouteTable(revision=0, published_at=time.time()) if self._table is None else None
        if row[1] is None:
            return None
        # The row's number is the truth: the document may have been written before it was known.
        return msgspec.structs.replace(self._reader.decode(row[1]), revision=row[0])

    def _adopt_kept(self) -> None:
        try:
            table = self._reader.decode(self._table_file.read_bytes())
        except FileNotFoundError:
            return
        except msgspec.MsgspecError:
            logger.exception("The route table on disk cannot be read; waiting for Postgres.")
            return
        logger.info("Answering from the route table r%d on disk.", table.revision)
        self._adopt(table)

    def _adopt(self, table: RouteTable) -> None:
        """Have loaded what is new, then swap in one assignment in the event loop's thread. What has not changed is handed on."""
        is_first = self._engine.routes is None
        self._memory.look_for_crashes()
        self._memory.hold(table.builds, _roles(table))
        wanted = self._memory.first_choice() if is_first else self._needed(table)
        self._memory.load(wanted)
        self._memory.wait(wanted, None if is_first else _LOADING_HOLDS_UP_S)
        self._changes = self._memory.changes
        builds, errors = self._compiled(table)
        routes = Routes(table, builds, errors, self._engine.routes)
        done: Future[None] = Future()

        used = self._used_elsewhere(table)

        def swap() -> None:
            self._engine.accounts.begin(table.keys, used)
            self._engine.adopt(routes)
            done.set_result(None)

        self._loop.call_soon_threadsafe(swap)
        done.result(timeout=60)
        if is_first:
            # ``signalbox restart`` waits for these words.
            logger.info("Ready with route table r%d.", table.revision)
        self._table, self._builds = table, builds
        self._retry_at = time.monotonic() + _RETRY_FAILED_S
        gc.collect()
        gc.freeze()
        give_back()

    def _used_elsewhere(self, table: RouteTable) -> dict[str, tuple[int, int]]:
        """Read what keys with a budget have used before us, so that a process that starts gives nobody more than is left."""
        budgeted = [key.id for key in table.keys if has_budget(key.limits)]
        if not budgeted:
            return {}
        try:
            return self._link.run(lambda connection: self._engine.accounts.used_elsewhere(connection, budgeted))
        except (Away, psycopg.Error):
            return {}

    def _needed(self, table: RouteTable) -> list[Build]:
        """Give the builds that this process has never had, those in a slot that is filled anew, and those that begin to answer."""
        before = self._table or RouteTable(revision=0, published_at=0)
        was = {endpoint.name: endpoint for endpoint in before.endpoints}
        digests = {build.entry.digest for build in self._memory.builds.values() if build.state == State.UNKNOWN}
        for endpoint in table.endpoints:
            digests |= _begun(endpoint, was.get(endpoint.name))
        return [self._memory.builds[digest] for digest in digests if digest in self._memory.builds]

    def _compiled(self, table: RouteTable) -> tuple[Builds, dict[str, str]]:
        """Compile what can answer, loaded or not; give why the rest cannot, by digest. What is being loaded for this table is left out."""
        builds = Builds()
        errors: dict[str, str] = {}
        for entry in table.builds:
            build = self._memory.builds[entry.digest]
            if build.error:
                errors[entry.digest] = build.error
                if build.state == State.REFUSED:
                    builds.refused.add(entry.digest)
            elif build.facts is not None and not self._memory.expects(build):
                try:
                    builds.add(self._builds.exactly(entry, build) or CompiledBuild(entry, build))
                except Exception as error:  # one build must not cost the others their table
                    logger.exception("%s version %d cannot be served.", entry.model, entry.version)
                    errors[entry.digest] = f"Its signature cannot be served: {type(error).__name__}: {error}"
        return builds, errors

    def _keep(self, table: RouteTable) -> None:
        """Put the table on disk. With the disk full the old one stays, and answering goes on."""
        partial = self._table_file.with_suffix(f".{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.write(self._reader.encode(table))
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self._table_file)
            self._memory.forget_on_disk()
        except OSError as error:
            logger.warning("The route table cannot be kept on disk: %s", error)


def _roles(table: RouteTable) -> dict[str, Role]:
    """Give what each build is for, by digest."""
    roles: dict[str, Role] = {}
    for slot in (slot for endpoint in table.endpoints for slot in endpoint.slots):
        known = roles.get(slot.build_digest, Role(answers=False, deployed_at=0.0))
        roles[slot.build_digest] = Role(known.answers or slot.weight > 0 or slot.shadow, max(known.deployed_at, slot.deployed_at))
    return roles


def _begun(endpoint: EndpointEntry, before: EndpointEntry | None) -> set[str]:
    """Give the digests in slots that were filled, or got traffic, since ``before``."""
    was = {(slot.name, slot.build_digest): slot.weight for slot in before.slots} if before else {}
    begun = set()
    for slot in endpoint.slots:
        weight = was.get((slot.name, slot.build_digest))
        if weight is None or (slot.weight > 0 and weight == 0):
            begun.add(slot.build_digest)
    return begun
