"""Follows the published route table: LISTEN and a poll each second, new builds loaded and warm before the swap.

The last table and its builds are kept on disk: a restart without Postgres answers from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import shutil
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from core.digests import artifact_path, digest_of
from serving import table as route_table
from serving.dataplane.engine import Engine
from serving.dataplane.live import Builds, LoadedBuild, Routes
from serving.dataplane.postgres import Away, Link
from serving.runtimes.onnx import LoadFailed, OnnxBuild, RunFailed
from serving.table import BuildEntry, RouteTable

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_RETRY_FAILED_S = 5.0
_CRASHES = 2
_AT_ONCE_S = 1.0
"""Markers closer together than this are one crash: processes that were ended together, say by a power cut."""
_CRASH_MEMORY_S = 3600
_LATEST = """
SELECT revision, CASE WHEN revision <> %s THEN document END FROM serving_publishedtable ORDER BY revision DESC LIMIT 1
"""


class TableFollower:
    """A thread that keeps ``engine.routes`` at the newest published table."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, link: Link, folder: Path, artifacts: Path) -> None:
        self._engine, self._loop, self._link = engine, loop, link
        self._store = BuildStore(folder, artifacts)
        self._table_file = folder / "table.json"
        self._builds = Builds()
        self._table: RouteTable | None = None
        self._failed_at = 0.0
        self._listening: psycopg.Connection[Any] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="route-table", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=3)
        self._store.end_loading()

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
            if self._table is None:
                logger.warning("No route table from Postgres (%s); looking on disk.", error)
                self._adopt_kept()
            self._stopping.wait(_POLL_S)
            return
        if table is not None:
            self._adopt(table)
            self._keep(table)
        elif self._table is not None and self._failed_at and time.monotonic() - self._failed_at > _RETRY_FAILED_S:
            self._adopt(self._table)

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
        return msgspec.structs.replace(route_table.decode(row[1]), revision=row[0])

    def _adopt_kept(self) -> None:
        try:
            table = route_table.decode(self._table_file.read_bytes())
        except FileNotFoundError:
            return
        except msgspec.MsgspecError:
            logger.exception("The route table on disk cannot be read; waiting for Postgres.")
            return
        logger.info("Answering from the route table r%d on disk.", table.revision)
        self._adopt(table)

    def _adopt(self, table: RouteTable) -> None:
        """Load what is new, then swap in one assignment in the event loop's thread."""
        builds = Builds()
        errors: dict[str, str] = {}
        for entry in table.builds:
            try:
                builds.add(self._loaded(entry, builds))
            except (LoadFailed, RunFailed) as error:
                logger.error("%s version %d cannot be served: %s", entry.model, entry.version, error.message)  # noqa: TRY400  # the text says it all
                errors[entry.digest] = error.message
            except Exception as error:  # one build's failure must not keep the table, with its keys and roll backs, from the others
                logger.exception("%s version %d cannot be served.", entry.model, entry.version)
                errors[entry.digest] = f"Loading it failed: {type(error).__name__}: {error}"
        routes = Routes(table, builds, errors, self._engine.routes)
        done: Future[None] = Future()

        def swap() -> None:
            self._engine.adopt(routes)
            done.set_result(None)

        self._loop.call_soon_threadsafe(swap)
        done.result(timeout=60)
        self._table, self._builds = table, builds
        self._failed_at = time.monotonic() if errors else 0.0
        gc.collect()
        gc.freeze()
        _give_back_memory()

    def _loaded(self, entry: BuildEntry, fresh: Builds) -> LoadedBuild:
        key = (entry.digest, entry.model, entry.version)
        before = self._builds.of(*key) or fresh.of(*key)
        if before is None:
            return LoadedBuild(entry, self._store.load(entry))
        return before if before.entry == entry else LoadedBuild(entry, before.runtime)

    def _keep(self, table: RouteTable) -> None:
        """Put the table on disk. With the disk full the old one stays, and answering goes on."""
        partial = self._table_file.with_suffix(f".{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.write(route_table.encode(table))
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self._table_file)
            self._store.forget_all_but({entry.digest for entry in table.builds})
        except OSError as error:
            logger.warning("The route table cannot be kept on disk: %s", error)


def _give_back_memory() -> None:
    """Give the system what loading builds and old tables have left: a third of what a forest's loading took. Only glibc keeps it so."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class BuildStore:
    """The bytes of builds: from the artifact store, with a copy of our own that outlives it."""

    def __init__(self, folder: Path, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._copies = folder / "builds"
        self._markers = folder / "loading"
        self._copies.mkdir(parents=True, exist_ok=True)
        self._markers.mkdir(parents=True, exist_ok=True)

    def load(self, entry: BuildEntry) -> OnnxBuild:
        """Load and warm a build; raises LoadFailed, also for one that has killed processes before."""
        if entry.kind == "native":
            raise LoadFailed("This build has no ONNX form, and the data plane runs ONNX only.")
        content = self._content(entry.digest)
        self._refuse_killer(entry.digest)
        marker = self._markers / f"{entry.digest}.{os.getpid()}"
        marker.touch()
        try:
            return OnnxBuild(content, entry.signature)
        finally:
            marker.unlink(missing_ok=True)

    def _content(self, digest: str) -> bytes:
        copy = self._copies / digest
        for path in (artifact_path(self._artifacts, digest), copy):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            if digest_of(content) != digest:
                logger.error("%s does not have the digest that its name says; it is not used.", path)
                continue
            if path != copy:
                _keep_copy(path, copy)
            return content
        raise LoadFailed(f"The file {digest[:12]} is not in the artifact store, or was changed. Restore it, or deploy another version.")

    def _refuse_killer(self, digest: str) -> None:
        """A marker that a dead process left says that it died while loading this build."""
        times: list[float] = []
        for marker in self._markers.glob(f"{digest}.*"):
            if _is_running(int(marker.suffix[1:])):
                continue
            with contextlib.suppress(FileNotFoundError):
                begun = marker.stat().st_mtime
                if time.time() - begun > _CRASH_MEMORY_S:
                    marker.unlink()
                else:
                    times.append(begun)
        times.sort()
        crashes = sum(place == 0 or begun - times[place - 1] > _AT_ONCE_S for place, begun in enumerate(times))
        if crashes >= _CRASHES:
            raise LoadFailed(f"Loading this build ended processes {crashes} times within the hour. Deploy another version.")

    def end_loading(self) -> None:
        """Take this process's markers away: it ends because it was asked to, not because of a build."""
        for marker in self._markers.glob(f"*.{os.getpid()}"):
            marker.unlink(missing_ok=True)

    def forget_all_but(self, digests: set[str]) -> None:
        for path in self._copies.iterdir():
            if path.name not in digests:
                path.unlink(missing_ok=True)


def _keep_copy(path: Path, copy: Path) -> None:
    """Link, or copy across file systems; that it fails costs only the safety of a copy."""
    if copy.exists():
        return
    try:
        os.link(path, copy)
    except FileExistsError:
        pass
    except OSError:
        try:
            partial = copy.with_suffix(f".{os.getpid()}")
            shutil.copyfile(path, partial)
            partial.rename(copy)
        except OSError as error:
            logger.warning("No copy of the build %s can be kept: %s", copy.name[:12], error)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
