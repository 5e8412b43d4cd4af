"""One data-plane process: its threads, its socket, and how it ends without losing a request."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.environment import Environment
from core.ids import uuid7
from serving.dataplane.asgi import Application
from serving.dataplane.counts import TrafficCounts
from serving.dataplane.engine import Engine
from serving.dataplane.heartbeat import Heartbeat
from serving.dataplane.log import PredictionLog
from serving.dataplane.postgres import Link
from serving.dataplane.protocol import bound_to
from serving.dataplane.spool import Spool
from serving.dataplane.tables import TableFollower

logger = logging.getLogger(__name__)

DRAIN_S = 1.0
"""So long, after readiness has gone off, are requests still taken: each answer then closes its connection."""
_KEEP_ALIVE_S = 75
_LONGEST_DRAIN_S = 15


@dataclass(frozen=True, slots=True)
class Options:
    """How to listen. ``plain_asgi`` leaves out the short way of ``protocol.py``: the same answers, slower."""

    sock: socket.socket
    plain_asgi: bool = False


class _Server(uvicorn.Server):
    """uvicorn, but SIGTERM first takes readiness away and drains, and is not raised again afterwards."""

    engine: Engine
    loop: asyncio.AbstractEventLoop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.engine.draining:
            self.should_exit = True
            return
        logger.info("Draining.")
        self.engine.draining = True
        self.loop.call_soon_threadsafe(self.loop.call_later, DRAIN_S, self._leave)

    def _leave(self) -> None:
        self.should_exit = True


async def serve(environment: Environment, options: Options) -> None:
    """Run until SIGTERM or SIGINT; the log is flushed before this returns."""
    loop = asyncio.get_running_loop()
    folder = environment.var_dir / "dataplane"
    process = uuid7()
    url = environment.database_url
    log = PredictionLog(Link(url, "signalbox log"), Spool(folder / "spool"))
    counts = TrafficCounts(process)
    engine = Engine(log, counts, loop)
    follower = TableFollower(engine, loop, Link(url, "signalbox routes"), folder, environment.artifacts_dir)
    heartbeat = Heartbeat(process, engine, counts, Link(url, "signalbox heartbeat"))
    server = _Server(_config(engine, options))
    server.engine, server.loop = engine, loop
    for part in (log, follower, heartbeat):
        part.start()
    try:
        await server.serve(sockets=[options.sock])
    finally:
        engine.draining = True
        for stop in (follower.stop, log.stop, heartbeat.stop):
            await loop.run_in_executor(None, stop)
        engine.close()


def _config(engine: Engine, options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        Application(engine),
        http=HttpToolsProtocol if options.plain_asgi else bound_to(engine),
        ws="none",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LONGEST_DRAIN_S,
    )
