"""The service inference.GRPCInferenceService: each call's bytes to the engine or the catalog, and the answer back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from core import request_ids
from core.errors import SignalboxError
from serving.dataplane.call import NOWHERE, Head, Headers
from serving.dataplane.engine import Engine
from serving.dataplane.errors import BadRequest, Busy, Failed
from serving.dataplane.grpc import catalog_calls, streams
from serving.dataplane.grpc.catalog_calls import CatalogCall
from serving.dataplane.grpc.messages import SERVICE, MessageCall, headers_of, path_of, read
from serving.dataplane.grpc.packed import vetted
from serving.dataplane.grpc.statuses import abort, metadata_of
from serving.dataplane.grpc.streams import Stream
from serving.dataplane.problems import body_of
from serving.dataplane.problems import headers_of as headers_of_error

logger = logging.getLogger(__name__)

METHOD = "ModelInfer"


class Service:
    """Predictions are read and written as bytes here, so that their size is known before they are parsed."""

    def __init__(self, engine: Engine, message_bytes: int) -> None:
        self._engine, self._message_bytes = engine, message_bytes
        self._streams: set[Stream] = set()
        self._closed = False

    def handlers(self) -> grpc.GenericRpcHandler:
        methods = {name: grpc.unary_unary_rpc_method_handler(self._answering(name, call)) for name, call in catalog_calls.CALLS.items()}
        methods[METHOD] = grpc.unary_unary_rpc_method_handler(self.infer)
        methods[streams.METHOD] = grpc.stream_stream_rpc_method_handler(self.stream_infer)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def infer(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer one prediction."""
        future: asyncio.Future[tuple[int, Headers, bytes]] = asyncio.get_running_loop().create_future()

        def reply(status: int, headers: Headers, body: bytes) -> None:
            if not future.done():
                future.set_result((status, headers, body))

        message, data, refusal = read(data, partial(self._vetted, headers_of(context)))
        call = MessageCall(METHOD, message, data, context, reply)
        if refusal is None:
            self._engine.submit(call)
        else:
            self._engine.refuse_unread(call, refusal)
        status, told, body = await future
        if status != 200:
            await abort(context, status, body, told)
        if told:
            context.set_trailing_metadata(metadata_of(told))
        return body

    async def stream_infer(self, requests: AsyncIterable[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Answer a stream of predictions."""
        asked = _Asked(streams.METHOD, context)
        stream = Stream(self._engine, context, self._message_bytes)
        self._streams.add(stream)
        try:
            if self._closed:
                raise Busy("This process is shutting down. Open a new stream.")
            async for answer in stream.answers(requests):
                yield answer.SerializeToString()
        except SignalboxError as error:
            await self._refuse(asked, error)
        finally:
            self._streams.discard(stream)

    def close(self) -> None:
        """Let every stream answer what it has read, and end; take no new one."""
        self._closed = True
        for stream in self._streams:
            stream.end()

    def _vetted(self, headers: dict[bytes, bytes], data: bytes) -> bytes:
        return vetted(self._engine, headers, data, self._message_bytes)

    def _answering(self, method: str, call: CatalogCall) -> Callable[[bytes, grpc.aio.ServicerContext], Any]:
        async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            asked = _Asked(method, context, len(data))
            try:
                found = await self._looked_up(call, data, asked.headers)
            except SignalboxError as error:
                await self._refuse(asked, error)
            self._tell(asked, 200, len(found))
            return found

        return answer

    async def _looked_up(self, call: CatalogCall, data: bytes, headers: dict[bytes, bytes]) -> bytes:
        """Give the answer's bytes; raises SignalboxError alone."""
        try:
            message = call.request.FromString(self._vetted(headers, data))
            answered = await catalog_calls.answer(self._engine, call, message, headers)
            return bytes(answered.SerializeToString())
        except DecodeError:
            raise BadRequest(f"The message is no {call.request.DESCRIPTOR.name}.") from None
        except SignalboxError:
            raise
        except Exception as error:  # the edge: what nobody expected is ours
            logger.exception("The call %s failed.", call.request.DESCRIPTOR.name)
            raise Failed("Signalbox failed on this request. The server's log has the details.") from error

    async def _refuse(self, asked: _Asked, error: SignalboxError) -> NoReturn:
        head, body = asked.head, body_of(error)
        self._engine.count_refusal(error)
        head.request_id = head.request_id or request_ids.fresh()
        self._tell(asked, error.status, len(body))
        await abort(asked.context, error.status, body, headers_of_error(error) + b"x-request-id: %b\r\n" % head.request_id.encode())

    def _tell(self, asked: _Asked, status: int, size: int) -> None:
        if self._engine.watcher is not None:
            self._engine.watcher.told(asked.head, "POST", path_of(asked.method), asked.begun, (status, asked.size, size))


class _Asked:
    """A call that is no prediction, or a stream as a whole. A request id that came with it goes back with its end."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext, size: int = 0) -> None:
        self.begun = time.perf_counter()
        self.method, self.context, self.size = method, context, size
        self.headers = headers_of(context)
        self.head = Head(NOWHERE, self.headers)
        if self.head.request_id is not None:
            context.set_trailing_metadata((("x-request-id", self.head.request_id),))
