"""One ModelStreamInfer: many requests in flight on one stream, answers as they finish, a bounded number of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial

import grpc

from serving.dataplane.call import Headers
from serving.dataplane.engine import Engine
from serving.dataplane.errors import Busy
from serving.dataplane.grpc import inference_pb2 as pb
from serving.dataplane.grpc.messages import MessageCall, headers_of, read
from serving.dataplane.grpc.packed import vetted
from serving.dataplane.grpc.statuses import metadata_of, text_of

METHOD = "ModelStreamInfer"
MOST_IN_FLIGHT = 64
"""So many requests of one stream are taken before the first is answered; the rest waits on the wire."""
_FINAL = "triton_enable_empty_final_response"


class Stream:
    """``end`` stops the reading; what was read is still answered."""

    def __init__(self, engine: Engine, context: grpc.aio.ServicerContext, message_bytes: int) -> None:
        self._engine, self._context, self._message_bytes = engine, context, message_bytes
        self._headers = headers_of(context)
        self._answers: asyncio.Queue[pb.ModelStreamInferResponse | None] = asyncio.Queue()
        self._in_flight = 0
        self._freed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self.ending = False

    async def answers(self, requests: AsyncIterable[bytes]) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Give the answers in the order in which they finish; the last follows the client's last request.

        Raises Unauthorized before the first, and Busy after the last if the process ends before the client does.
        """
        self._engine.authorize(self._headers.get(b"authorization"), self._headers.get(b"x-api-key"))
        self._reading = asyncio.create_task(self._read(requests))
        # Not at the end of the task's own code: of a task that is cancelled before its first step none runs.
        self._reading.add_done_callback(lambda _: self._answers.put_nowait(None))
        try:
            is_read = False
            while self._in_flight or not is_read:
                answer = await self._answers.get()
                if answer is None:
                    is_read = True
                    continue
                yield answer
                self._in_flight -= 1
                self._freed.set()
        finally:
            self._reading.cancel()
        if self.ending:
            raise Busy("This process is shutting down. What it has answered holds; send the rest on a new stream.")

    def end(self) -> None:
        """Read no more, since the process ends."""
        self.ending = True
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, requests: AsyncIterable[bytes]) -> None:
        async for data in requests:
            await self._take(data)

    async def _take(self, data: bytes) -> None:
        """Hand one request to the engine, as soon as the stream and its endpoint have room for it."""
        message, data, refusal = read(data, partial(vetted, self._engine, self._headers, message_bytes=self._message_bytes))
        name = message.model_name
        while self._in_flight >= min(MOST_IN_FLIGHT, self._limit(name)):
            self._freed.clear()
            await self._freed.wait()
        self._in_flight += 1

        def reply(status: int, headers: Headers, body: bytes) -> None:
            self._answers.put_nowait(_answer(status, headers, body, message))

        call = MessageCall(METHOD, message, data, self._context, reply)
        if refusal is None:
            self._engine.submit(call)
        else:
            self._engine.refuse_unread(call, refusal)

    def _limit(self, endpoint: str) -> int:
        """Give how many requests the endpoint takes at once, so that one stream alone never makes it busy."""
        routes = self._engine.routes
        state = routes.endpoints.get(endpoint) if routes else None
        return state.limits.max_concurrency if state else MOST_IN_FLIGHT


def _answer(status: int, headers: Headers, body: bytes, message: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
    answer = pb.ModelStreamInferResponse()
    if status == 200:
        answer.infer_response.MergeFromString(body)
    else:
        answer.error_message = text_of(body)
        answer.infer_response.model_name, answer.infer_response.id = message.model_name, message.id
    for name, value in metadata_of(headers):
        answer.infer_response.parameters[name].string_param = value
    if _FINAL in message.parameters and message.parameters[_FINAL].bool_param:
        answer.infer_response.parameters["triton_final_response"].bool_param = True
    return answer
