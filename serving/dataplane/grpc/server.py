"""The gRPC process of the data plane: its server, and how it ends without losing a request."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket

import grpc

from core.environment import Environment
from serving.dataplane.engine import Engine
from serving.dataplane.grpc import health, messages, packed
from serving.dataplane.grpc.door import Door
from serving.dataplane.grpc.health import Health
from serving.dataplane.grpc.service import Service
from serving.dataplane.process import DRAIN_S, LONGEST_DRAIN_S, first_table, running_engine

logger = logging.getLogger(__name__)

_FRAME_BYTES = 2**20
"""What a message has beside its tensors' bytes, generously."""
_LAST_CALLS_S = 1.0
"""So long have the calls of clients that did not go when they were asked to."""
_READY_STEP_S = 0.05


async def serve(environment: Environment, sock: socket.socket) -> None:
    """Run at a listening socket until SIGTERM or SIGINT; the log is flushed before this returns."""
    leaving = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leaving.set)
    async with running_engine(environment, "grpc") as engine:
        predictions = Service(engine, environment.grpc_message_bytes)
        checks = Health(engine, frozenset(("", messages.SERVICE, health.SERVICE)))
        server, address = _server(environment.grpc_message_bytes)
        server.add_generic_rpc_handlers((predictions.handlers(), checks.handlers()))
        await server.start()
        await first_table(engine, leaving.is_set)
        door = Door(sock, address, asyncio.get_running_loop())
        telling = asyncio.create_task(_tell(engine, sock))
        await leaving.wait()
        telling.cancel()
        logger.info("Draining.")
        engine.drain()
        await asyncio.sleep(DRAIN_S)
        await door.close()
        predictions.close()
        checks.close()
        await door.emptied(LONGEST_DRAIN_S)
        await server.stop(_LAST_CALLS_S)


async def _tell(engine: Engine, sock: socket.socket) -> None:
    """Say in the log when requests are taken; ``signalbox up`` waits for it."""
    while not engine.is_ready:  # noqa: ASYNC110  # readiness is a value that other threads change, no event
        await asyncio.sleep(_READY_STEP_S)
    logger.info("Answering over gRPC on %s, port %d.", *sock.getsockname()[:2])


def _server(message_bytes: int) -> tuple[grpc.aio.Server, str]:
    """Give gRPC's server and the address of the Unix socket that it listens at: one without a file, so that none is left behind.

    As anybody on this machine may open the port, so may they this.
    """
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", message_bytes + _FRAME_BYTES), ("grpc.max_send_message_length", -1), packed.SERVER_OPTION]
    )
    name = f"signalbox-grpc-{secrets.token_hex(16)}"
    server.add_insecure_port(f"unix-abstract:{name}")
    return server, f"\0{name}"
