"""Calls whose tensors are on their way out of shared memory or into it: in threads and under their deadlines, since an object's owner can stall them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from core.errors import SignalboxError
from serving.dataplane.call import Call
from serving.dataplane.errors import Busy, Failed

if TYPE_CHECKING:
    from serving.dataplane.engine import Engine

logger = logging.getLogger(__name__)

_MOST = 1000
"""Calls at once, also those that have been answered while a thread was still at work for them."""
Done = Callable[[SignalboxError | None], None]


class Copying:
    """The engine ``watches`` it as it does a queue, while there are calls. All but the copying itself is for the event loop's thread."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine, self._loop = engine, loop
        self._calls: dict[Call, bool] = {}

    def begin(self, call: Call, copy: Callable[[], None], done: Done, *, has_run: bool) -> None:
        """Let a thread ``copy``, then call ``done`` with why that failed, or None; not if the call was answered meanwhile, as late."""
        if len(self._calls) >= _MOST:
            done(Busy(f"{_MOST} requests wait for shared memory in this process. Try again in a second."))
            return
        self._calls[call] = has_run
        self._engine.watched.add(self)
        future = self._engine.regions.threads.submit(_copy, call, copy)
        future.add_done_callback(lambda future: self._loop.call_soon_threadsafe(self._end, call, future, done))

    def expire(self, now: float) -> None:
        """Answer 504 to calls past their deadline."""
        for call, has_run in list(self._calls.items()):
            self._engine.expire(call, now, has_run=has_run)

    def _end(self, call: Call, future: Future[None], done: Done) -> None:
        del self._calls[call]
        if not self._calls:
            self._engine.watched.discard(self)
        if call.done or future.cancelled():
            return
        error = future.exception()
        if error is not None and not isinstance(error, SignalboxError):
            logger.error("Copying from or to shared memory failed.", exc_info=error)
            error = Failed("Signalbox failed on this request. The server's log has the details.")
        done(error)


def _copy(call: Call, copy: Callable[[], None]) -> None:
    if not call.done:
        copy()
