"""The service inference.GRPCInferenceService: each call's bytes to the engine or the catalog, and the answer back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from core.errors import SignalboxError
from serving.dataplane.call import Headers
from serving.dataplane.engine import Engine
from serving.dataplane.errors import BadRequest, Busy, Failed
from serving.dataplane.grpc import catalog_calls
from serving.dataplane.grpc import inference_pb2 as pb
from serving.dataplane.grpc.catalog_calls import CatalogCall
from serving.dataplane.grpc.messages import MessageCall, headers_of
from serving.dataplane.grpc.packed import vetted
from serving.dataplane.grpc.statuses import abort, refuse, text_of
from serving.dataplane.grpc.streams import Stream

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"


class Service:
    """Predictions are read and written as bytes here, so that their size is known before they are parsed."""

    def __init__(self, engine: Engine, message_bytes: int) -> None:
        self._engine, self._message_bytes = engine, message_bytes
        self._streams: set[Stream] = set()
        self._closed = False

    def handlers(self) -> grpc.GenericRpcHandler:
        methods = {name: grpc.unary_unary_rpc_method_handler(self._answering(call)) for name, call in catalog_calls.CALLS.items()}
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self.infer)
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self.stream_infer)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def infer(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer one prediction."""
        if self._closed:
            await self._refuse(context, Busy("This process is shutting down. Send the request again."))
        headers = headers_of(context)
        try:
            data = vetted(self._engine, headers, data, self._message_bytes)
            message = pb.ModelInferRequest.FromString(data)
        except DecodeError:
            await self._refuse(context, BadRequest("The message is no ModelInferRequest."))
        except SignalboxError as error:
            await self._refuse(context, error)
        future: asyncio.Future[tuple[int, Headers, bytes]] = asyncio.get_running_loop().create_future()

        def reply(status: int, headers: Headers, body: bytes) -> None:
            if not future.done():
                future.set_result((status, headers, body))

        self._engine.submit(MessageCall(message, data, context, reply))
        status, told, body = await future
        if status != 200:
            await abort(context, status, text_of(body), told)
        return body

    async def stream_infer(self, requests: AsyncIterable[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Answer a stream of predictions."""
        if self._closed:
            await self._refuse(context, Busy("This process is shutting down. Open a new stream."))
        stream = Stream(self._engine, context, self._message_bytes)
        self._streams.add(stream)
        try:
            async for answer in stream.answers(requests):
                yield answer.SerializeToString()
        finally:
            self._streams.discard(stream)

    def close(self) -> None:
        """Refuse what comes from now on, and let every stream answer what it has read, and end."""
        self._closed = True
        for stream in self._streams:
            stream.end()

    async def _refuse(self, context: grpc.aio.ServicerContext, error: SignalboxError) -> NoReturn:
        """End a call that the engine has not seen."""
        self._engine.count_refusal(error)
        await refuse(context, error)

    def _answering(self, call: CatalogCall) -> Callable[[bytes, grpc.aio.ServicerContext], Any]:
        async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            headers = headers_of(context)
            try:
                message = call.request.FromString(vetted(self._engine, headers, data, self._message_bytes))
                answered = await catalog_calls.answer(self._engine, call, message, headers)
            except DecodeError:
                await self._refuse(context, BadRequest(f"The message is no {call.request.DESCRIPTOR.name}."))
            except SignalboxError as error:
                await self._refuse(context, error)
            except Exception:  # the edge: what nobody expected is ours
                logger.exception("The call %s failed.", call.request.DESCRIPTOR.name)
                await self._refuse(context, Failed("Signalbox failed on this request. The server's log has the details."))
            return bytes(answered.SerializeToString())

        return answer
