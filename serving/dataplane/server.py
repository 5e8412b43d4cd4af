"""The HTTP process of the data plane: its socket, and how it ends without losing a request."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from functools import partial
from types import FrameType

import uvicorn

from core.environment import Environment
from serving.dataplane import metrics
from serving.dataplane.asgi import Application
from serving.dataplane.engine import Engine
from serving.dataplane.listen import Listener
from serving.dataplane.patience import Patience
from serving.dataplane.process import DRAIN_S, LONGEST_DRAIN_S, first_table, running_engine
from serving.dataplane.protocol import bound_to

logger = logging.getLogger(__name__)

_KEEP_ALIVE_S = 75


@dataclass(frozen=True, slots=True)
class Options:
    """How to listen. ``plain_asgi`` leaves out the short way of ``protocol.py``: the same answers, slower."""

    sock: socket.socket
    plain_asgi: bool = False


class _Server(uvicorn.Server):
    """uvicorn, but SIGTERM first takes readiness away and drains, and is not raised again afterwards."""

    engine: Engine
    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        await first_table(self.engine, lambda: self.should_exit)
        for sock in sockets or []:
            self.servers.append(Listener(sock, partial(self.loop.connect_accepted_socket, self._protocol), self.loop))  # type: ignore[arg-type]  # it has what uvicorn uses of a server

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.engine.draining:
            self.should_exit = True
            return
        logger.info("Draining.")
        self.engine.drain()
        self.loop.call_soon_threadsafe(self.loop.call_later, DRAIN_S, self._leave)

    def _leave(self) -> None:
        self.should_exit = True


async def serve(environment: Environment, options: Options) -> None:
    """Run until SIGTERM or SIGINT; the log is flushed before this returns."""
    async with running_engine(environment, "http") as engine:
        server = _Server(_config(engine, options, metrics.Page(engine, environment)))
        server.engine, server.loop = engine, asyncio.get_running_loop()
        Patience(server.server_state.connections, server.loop).start()
        await server.serve(sockets=[options.sock])


def _config(engine: Engine, options: Options, page: metrics.Page) -> uvicorn.Config:
    return uvicorn.Config(
        Application(engine, page),
        http=bound_to(engine, plain_asgi=options.plain_asgi),
        ws="none",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=LONGEST_DRAIN_S,
    )
