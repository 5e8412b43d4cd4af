"""The gRPC process of the data plane: its port, and how it ends without losing a request."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass

import grpc

from core.environment import Environment, address
from serving.dataplane.engine import Engine
from serving.dataplane.grpc import health, messages, packed
from serving.dataplane.grpc.health import Health
from serving.dataplane.grpc.service import Service
from serving.dataplane.process import DRAIN_S, LONGEST_DRAIN_S, running_engine

logger = logging.getLogger(__name__)

_FRAME_BYTES = 2**20
"""What a message has beside its tensors' bytes, generously."""
_REFUSING_S = 0.3
_READY_STEP_S = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """How to listen. ``shared``: several processes listen on the port, and the kernel deals out the connections."""

    host: str
    port: int
    shared: bool = False


async def serve(environment: Environment, options: Options) -> None:
    """Run until SIGTERM or SIGINT; the log is flushed before this returns."""
    leaving = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leaving.set)
    async with running_engine(environment, "grpc") as engine:
        predictions = Service(engine, environment.grpc_message_bytes)
        checks = Health(engine, frozenset(("", messages.SERVICE, health.SERVICE)))
        server = _server(options, environment.grpc_message_bytes)
        server.add_generic_rpc_handlers((predictions.handlers(), checks.handlers()))
        await server.start()
        telling = asyncio.create_task(_tell(engine, options))
        await leaving.wait()
        telling.cancel()
        logger.info("Draining.")
        engine.drain()
        await asyncio.sleep(DRAIN_S)
        # gRPC cancels what arrives while it closes its connections; refused as unavailable, callers know that they may send it again.
        predictions.close()
        checks.close()
        await asyncio.sleep(_REFUSING_S)
        await server.stop(LONGEST_DRAIN_S)


async def _tell(engine: Engine, options: Options) -> None:
    """Say in the log when requests are taken; ``signalbox up`` waits for it."""
    while not engine.is_ready:  # noqa: ASYNC110  # readiness is a value that other threads change, no event
        await asyncio.sleep(_READY_STEP_S)
    logger.info("Answering over gRPC on %s, port %d.", options.host, options.port)


def _server(options: Options, message_bytes: int) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", message_bytes + _FRAME_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(options.shared)),
            packed.SERVER_OPTION,
        ]
    )
    server.add_insecure_port(address(options.host, options.port))
    return server
