"""What every data-plane process has, whatever its transport: the engine, and the threads that feed it and tell of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from types import ModuleType

import numpy as np

from core.environment import Environment
from core.ids import uuid7
from core.metrics.siblings import Sibling
from serving.dataplane import cache, metrics
from serving.dataplane.counts import TrafficCounts
from serving.dataplane.crashes import Cells, CrashWatch
from serving.dataplane.engine import Engine
from serving.dataplane.heartbeat import Heartbeat
from serving.dataplane.log import PredictionLog
from serving.dataplane.memory import BuildMemory, budget_of
from serving.dataplane.observing import FORMAT, Observing
from serving.dataplane.postgres import Link
from serving.dataplane.regions import Regions
from serving.dataplane.sharing import RateSharing
from serving.dataplane.spool import Spool
from serving.dataplane.store import BuildStore
from serving.dataplane.tables import TableFollower
from serving.dataplane.tally import Tally, folder_for
from serving.dataplane.watch import watcher

logger = logging.getLogger(__name__)

DRAIN_S = 1.0
"""So long, after readiness has gone off, are requests still taken: each answer then closes its connection."""
LONGEST_DRAIN_S = 12
_FIRST_TABLE_S = 10.0
"""After this a process without a table says itself that it is not ready."""
_STEP_S = 0.02
_STOPPED_WITHIN_S = 5
"""So long has the log, and after it all the rest. What has not stopped then ends with the process: ``signalbox up`` waits 25 s for the whole."""


class _WithoutPandas(MetaPathFinder):
    """To make its first array pyarrow imports pandas, if there is one: most of a second that requests wait for, and 40 MB that nothing uses."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("The data plane does without pandas.", name=name)


def prepare() -> None:
    """Set up the interpreter; call it before the event loop runs."""
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    # A number too large for its type becomes infinite and is then refused by name; no warning is needed.
    np.seterr(over="ignore", invalid="ignore")
    # The log's thread gives way to the event loop after 2 ms instead of 5; at 0.5 ms the switching itself doubled the cost of a request.
    sys.setswitchinterval(0.002)
    gc.set_threshold(50_000, 20, 50)
    sys.meta_path.insert(0, _WithoutPandas())
    # A connection is an open file, and so is what the log spools: 1,024, a usual soft limit, are soon used up.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


@contextlib.asynccontextmanager
async def running_engine(environment: Environment, kind: str) -> AsyncIterator[Engine]:
    """Give an engine that follows the routes, logs and reports; at the end its log is flushed. ``kind`` names the transport."""
    loop = asyncio.get_running_loop()
    folder = environment.var_dir / "dataplane"
    process = uuid7()
    url = environment.database_url
    log = PredictionLog(Link(url, "signalbox log"), Spool(folder / "spool"), Tally(folder_for(environment.var_dir), process))
    counts = TrafficCounts(process)
    crashes = CrashWatch(folder)
    engine = Engine(log, counts, loop, Cells(crashes.marks.cells))
    engine.watcher = watcher(environment, metrics.PROCESSES[kind])
    engine.observing = Observing(environment.observing_file, engine.watcher.traces if engine.watcher else None)
    engine.regions = Regions(environment.regions_file if environment.offers_shared_memory else None, direct_only=environment.shared_memory == "auto")
    processes = environment.dataplane_processes + (environment.grpc_processes if environment.grpc_port else 0)
    budget_bytes = budget_of(environment.build_memory_bytes, processes, part=2)
    cache.ROOM.max_bytes = budget_of(environment.answer_memory_bytes, processes, part=16)
    memory = BuildMemory(BuildStore(folder, environment.artifacts_dir), crashes, loop, budget_bytes, engine.last_uses)
    follower = TableFollower(engine, loop, Link(url, "signalbox routes"), folder, memory)
    heartbeat = Heartbeat(process, kind, engine, memory, Link(url, "signalbox heartbeat"))
    sibling = Sibling(environment.run_dir, metrics.PROCESSES[kind], partial(metrics.collect, engine))
    sharing = RateSharing(environment.redis_url, engine.accounts, loop)
    for part in (log, memory, follower, heartbeat, sibling, sharing, engine.observing):
        part.start()
    try:
        yield engine
    finally:
        engine.drain()
        # The log first: whatever else hangs, what was answered is written. The heartbeat then tells what it has lost.
        await loop.run_in_executor(None, stop_together, log.stop)
        others = [follower.stop, memory.stop, heartbeat.stop, sibling.stop, sharing.stop, engine.observing.stop]
        if engine.watcher is not None:
            others.append(engine.watcher.stop)
        await loop.run_in_executor(None, stop_together, *others)
        log.close()
        engine.close()
        crashes.marks.close()


async def first_table(engine: Engine, is_leaving: Callable[[], bool]) -> None:
    """Leave callers to the other processes, or in the socket's queue, until there is something to answer them from."""
    until = time.monotonic() + _FIRST_TABLE_S
    while not engine.is_ready and not is_leaving() and time.monotonic() < until:  # noqa: ASYNC110  # no hook in the engine's way for this once
        await asyncio.sleep(_STEP_S)


def stop_together(*stops: Callable[[], None]) -> None:
    """Call all at once and wait for them, within a limit; one that fails or hangs keeps no other from being called."""
    threads = [threading.Thread(target=_stop, args=(stop,), name="stop", daemon=True) for stop in stops]
    for thread in threads:
        thread.start()
    until = time.monotonic() + _STOPPED_WITHIN_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _stop(stop: Callable[[], None]) -> None:
    try:
        stop()
    except Exception:  # a thread's edge
        logger.exception("A part of this process could not be stopped.")
