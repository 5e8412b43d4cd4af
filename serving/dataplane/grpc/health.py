"""gRPC's standard health check, grpc.health.v1: what Kubernetes and load balancers ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2

from serving.dataplane.engine import Engine
from serving.dataplane.grpc.packed import unpacked

SERVICE = "grpc.health.v1.Health"
_STEP_S = 0.25
MOST_WATCHERS = 100
"""They need no key, so their number is bounded; a load balancer needs a few."""
_MESSAGE_BYTES = 1024
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Says SERVING while the engine takes requests. ``services`` are the names that may be asked for."""

    def __init__(self, engine: Engine, services: frozenset[str]) -> None:
        self._engine, self._services = engine, services
        self._closed = False
        self._watchers = 0

    def close(self) -> None:
        """End the watching, so that the server can end."""
        self._closed = True

    def handlers(self) -> grpc.GenericRpcHandler:
        response = health_pb2.HealthCheckResponse.SerializeToString

        def request(data: bytes) -> health_pb2.HealthCheckRequest:
            return health_pb2.HealthCheckRequest.FromString(unpacked(data, _MESSAGE_BYTES))

        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, request, response),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def check(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> health_pb2.HealthCheckResponse:
        """Answer once; NOT_FOUND for a service that is not here."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {request.service} here.")
        return health_pb2.HealthCheckResponse(status=status)

    async def watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Answer now and at every change; RESOURCE_EXHAUSTED for one watcher too many."""
        if self._watchers >= MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WATCHERS} calls watch the health here already. Ask with Check.")
        self._watchers += 1
        try:
            async for status in self._changes(request.service):
                yield health_pb2.HealthCheckResponse(status=status)
        finally:
            self._watchers -= 1

    async def _changes(self, service: str) -> AsyncIterator[int]:
        last = None
        while not self._closed:
            status = self._status(service)
            if status != last:
                last = status
                yield status
            await asyncio.sleep(_STEP_S)

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_UNKNOWN)
        return int(_SERVING if self._engine.is_ready else _NOT_SERVING)
