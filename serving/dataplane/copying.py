"""Calls whose tensors are on their way out of shared memory or into it: in threads and under their deadlines, since an object's owner can stall them.

One key has half of the threads at most, so that who stalls them keeps its own calls waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from core.errors import SignalboxError
from serving.dataplane.call import Call
from serving.dataplane.errors import Busy, Failed
from serving.dataplane.regions import THREADS

if TYPE_CHECKING:
    from serving.dataplane.engine import Engine

logger = logging.getLogger(__name__)

_MOST = 1000
"""Calls of one key at once, also those that have been answered before a thread was done with them."""
Done = Callable[[SignalboxError | None], None]


class _Job(NamedTuple):
    call: Call
    copy: Callable[[], None]
    done: Done


class _Share:
    """What one key has in the threads, and what waits for its turn there."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[_Job] = deque()


class Copying:
    """The engine ``watches`` it as it does a queue, while there are calls. All but the copying itself is for the event loop's thread."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine, self._loop = engine, loop
        self._calls: dict[Call, bool] = {}
        self._shares: defaultdict[str | None, _Share] = defaultdict(_Share)

    def begin(self, call: Call, copy: Callable[[], None], done: Done, *, has_run: bool) -> None:
        """Let a thread ``copy``, then call ``done`` with why that failed, or None; not if the call was answered meanwhile, as late."""
        share = self._shares[call.key_id]
        if share.running + len(share.waiting) >= _MOST:
            done(Busy(f"{_MOST} requests of the API key {call.key_id} wait for shared memory in this process. Try again in a second."))
            return
        self._calls[call] = has_run
        self._engine.watched.add(self)
        share.waiting.append(_Job(call, copy, done))
        self._go_on(share)

    def expire(self, now: float) -> None:
        """Answer 504 to calls past their deadline."""
        for call, has_run in list(self._calls.items()):
            self._engine.expire(call, now, has_run=has_run)

    def _go_on(self, share: _Share) -> None:
        while share.waiting and share.running < THREADS // 2:
            job = share.waiting.popleft()
            share.running += 1
            future = self._engine.regions.threads.submit(_copy, job.call, job.copy)
            future.add_done_callback(partial(self._report, job))

    def _report(self, job: _Job, future: Future[None]) -> None:
        self._loop.call_soon_threadsafe(self._end, job, future)

    def _end(self, job: _Job, future: Future[None]) -> None:
        del self._calls[job.call]
        if not self._calls:
            self._engine.watched.discard(self)
        share = self._shares[job.call.key_id]
        share.running -= 1
        self._go_on(share)
        if not share.running:
            del self._shares[job.call.key_id]
        if job.call.done or future.cancelled():
            return
        error = future.exception()
        if error is not None and not isinstance(error, SignalboxError):
            logger.error("Copying from or to shared memory failed.", exc_info=error)
            error = Failed("Signalbox failed on this request. The server's log has the details.")
        job.done(error)


def _copy(call: Call, copy: Callable[[], None]) -> None:
    if not call.done:
        copy()
