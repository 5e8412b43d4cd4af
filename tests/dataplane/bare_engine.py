"""An engine in the test's own process, without a transport, a database or a follower: for what has to happen in one turn of its loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from core.ids import uuid7
from serving.dataplane.builds import Build, Builds, CompiledBuild
from serving.dataplane.counts import TrafficCounts
from serving.dataplane.engine import Engine
from serving.dataplane.live import Routes
from serving.dataplane.log import PredictionLog
from serving.dataplane.postgres import Link
from serving.dataplane.spool import Spool
from serving.dataplane.tally import Tally
from serving.runtimes.onnx import OnnxBuild
from serving.table import BuildEntry, EndpointEntry
from tests.dataplane.conftest import NO_DATABASE, table


@contextlib.contextmanager
def bare_engine(folder: Path, database_url: str = NO_DATABASE) -> Iterator[tuple[Engine, asyncio.AbstractEventLoop]]:
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)  # the browser tests leave one running in the main thread, which would forbid another
    loop = asyncio.new_event_loop()
    log = PredictionLog(Link(database_url, "tests"), Spool(folder / "spool"), Tally(folder, uuid7()))
    engine = Engine(log, TrafficCounts(uuid7()), loop)
    try:
        yield engine, loop
    finally:
        log.close()
        engine.close()
        loop.close()
        asyncio._set_running_loop(running)


def loaded(artifacts: Path, entry: BuildEntry) -> tuple[BuildEntry, Build]:
    """Load a build as the data plane would."""
    runtime = OnnxBuild(next(artifacts.rglob(entry.digest)).read_bytes(), entry.signature)
    build = Build(entry, lambda _: None, runtime.facts(0))
    build.runtime = runtime
    return entry, build


def adopt(engine: Engine, present: list[tuple[BuildEntry, Build]], *endpoints: EndpointEntry) -> Routes:
    """Answer from a table of these builds and endpoints."""
    builds = Builds()
    for entry, build in present:
        builds.add(CompiledBuild(entry, build))
    engine.adopt(Routes(table([entry for entry, _ in present], list(endpoints)), builds, {}, engine.routes))
    assert engine.routes is not None
    return engine.routes
