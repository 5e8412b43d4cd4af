"""Batching without waiting: what has piled up in this turn of the event loop, or during the last run, runs together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core.errors import SignalboxError
from serving.dataplane.call import Call
from serving.dataplane.crashes import Cells
from serving.dataplane.errors import Busy, Failed
from serving.dataplane.tensors import Array
from serving.runtimes.onnx import OnnxBuild

if TYPE_CHECKING:
    from serving.dataplane.live import Slot

logger = logging.getLogger(__name__)

INLINE_US = 2000.0
"""A run that is expected to take longer goes to a thread, so that the loop goes on reading."""
Arrays = dict[str, Array]


Logged = tuple[bytes, int, int, int, str | None, str | None]
"""What the log keeps of a call: id, rows, received (microseconds since 1970), latency in microseconds, request id, key id."""


@dataclass(slots=True)
class Batch:
    """What the log keeps of an answered batch. ``given`` is what the callers sent, not what a policy made of it.

    ``flags`` is None when no row has any.
    """

    given: Arrays
    outputs: list[Array]
    flags: Array | None
    calls: list[Logged]


class Expiring(Protocol):
    """What holds calls that have a deadline."""

    def expire(self, now: float) -> None: ...


class Settler(Protocol):
    """What takes the results: the engine. It expires the calls of what is ``watched`` in time."""

    watched: set[Expiring]
    cells: Cells

    def settle(self, slot: Slot, calls: list[Call], joined: Joined, outputs: list[Array], run_s: float) -> None: ...
    def refuse(self, call: Call, error: SignalboxError) -> None: ...
    def expire(self, call: Call, now: float) -> bool: ...


@dataclass(slots=True)
class Joined:
    """The rows of a batch: as sent, as run, and each row's flags (None: no row has any). ``begun`` is on the performance counter's clock.

    ``from_cache``: the outputs were kept from an earlier run.
    """

    given: Arrays
    arrays: Arrays
    flags: Array | None
    rows: int
    begun: float
    from_cache: bool = False


class Batcher:
    """The queue of one slot. Everything but the run itself happens in the event loop's thread.

    While the slot's build is not in memory, calls wait. It holds what the slot is made of, not the
    slot: in a circle of references, which the frozen garbage collection never looks at, a replaced
    slot would keep its build in memory for good.
    """

    def __init__(self, slot: Slot, settler: Settler, loop: asyncio.AbstractEventLoop, threads: ThreadPoolExecutor) -> None:
        self._build, self._spec, self._checks = slot.build, slot.spec, slot.checks
        self._settler, self._loop, self._threads = settler, loop, threads
        self._cells = settler.cells.cells
        self.pending: deque[Call] = deque()
        self.running: list[Call] = []
        self._scheduled = False

    def add(self, call: Call) -> None:
        """Queue a call; it runs in the next turn of the loop, or after the run that is going on."""
        self.pending.append(call)
        if not self._scheduled and not self.running:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def expire(self, now: float) -> None:
        """Answer 504 to calls past their deadline; called from a timer while a run is going on, or the build is being loaded."""
        late = [self._settler.expire(call, now) for call in [*self.running, *self.pending]]
        if any(late):
            self.pending = deque(call for call in self.pending if not call.done)

    def _flush(self) -> None:
        self._scheduled = False
        while self.pending and not self.running:
            runtime = self._build.runtime
            if runtime is None:
                self._wait_for_the_build()
                return
            calls = self._next(runtime)
            taken = calls.copy()
            try:
                joined = self._join(calls)
                if joined is not None:
                    self._start(calls, joined, runtime)
            except Exception:  # the edge: one batch's failure must not stop the queue or leave its callers without an answer
                logger.exception("A batch of %s failed.", taken[0].head.route.endpoint)
                self._give_up(taken)

    def _wait_for_the_build(self) -> None:
        """It was unloaded: have it loaded. Calls wait here until then or their deadline."""
        self._scheduled = True
        self._settler.watched.add(self)
        self._build.call_for(self._go_on)

    def _go_on(self, reason: str) -> None:
        """The build is in memory, or cannot be, for that reason."""
        self._settler.watched.discard(self)
        if reason:
            self._scheduled = False
            waiting, self.pending = self.pending, deque()
            for call in waiting:
                self._settler.refuse(call, Busy(f"The model of '{call.head.route.endpoint}' could not be loaded: {reason}"))
        else:
            self._flush()

    def _next(self, runtime: OnnxBuild) -> list[Call]:
        """Take calls in order while they fit into one batch: same row shapes, not more rows than pay off."""
        pending = self.pending
        calls = [pending.popleft()]
        if not self._spec.batched or calls[0].alone:
            return calls
        room = runtime.max_batch - calls[0].rows
        shapes = _row_shapes(calls[0]) if self._spec.variable else None
        while pending and pending[0].rows <= room and not pending[0].alone and (shapes is None or _row_shapes(pending[0]) == shapes):
            room -= pending[0].rows
            calls.append(pending.popleft())
        return calls

    def _join(self, calls: list[Call]) -> Joined | None:
        """Put the calls' rows together and check them; a call that is refused or late leaves ``calls``."""
        now, rows, late = time.perf_counter(), 0, False
        for call in calls:
            rows += call.rows
            late = late or call.done or now > call.deadline
        if late:
            calls[:] = [call for call in calls if not self._settler.expire(call, now)]
            return self._join(calls) if calls else None
        arrays = together([call.arrays for call in calls])
        checks = self._checks
        if checks.are_clean(arrays):
            return Joined(arrays, arrays, None, rows, now)
        try:
            checked, flags = checks.apply(arrays, rows)
        except SignalboxError as error:
            return self._join_the_others(calls, error)
        if not calls[0].alone:  # its batch has counted it
            checks.count()
        return Joined(arrays, checked, flags, rows, now)

    def _join_the_others(self, calls: list[Call], error: SignalboxError) -> Joined | None:
        """One row of the batch is refused: refuse its call, with rows counted in that call, and go on with the others."""
        if len(calls) == 1:
            self._checks.count_refused(error)
            self._settler.refuse(calls[0], error)
            return None
        good: list[Call] = []
        for call in calls:
            try:
                self._checks.apply(call.arrays, call.rows)
            except SignalboxError as own:
                self._checks.count_refused(own)
                self._settler.refuse(call, own)
            else:
                good.append(call)
        calls[:] = good
        return self._join(calls) if calls else None

    def _start(self, calls: list[Call], joined: Joined, runtime: OnnxBuild) -> None:
        if runtime.estimate_us(joined.rows) <= INLINE_US:
            self._run_inline(calls, joined, runtime)
            return
        self.running = calls
        self._settler.watched.add(self)
        future = self._threads.submit(_run_in_thread, runtime, joined, self._settler.cells)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._finish, done, calls, joined))

    def _run_inline(self, calls: list[Call], joined: Joined, runtime: OnnxBuild) -> None:
        try:
            outputs, run_s = _timed_run(runtime, joined, self._cells, 0)
        except SignalboxError as error:
            self._fail(calls, error)
            return
        self._settler.settle(slot_of(calls), calls, joined, outputs, run_s)

    def _finish(self, future: Future[tuple[list[Array], float]], calls: list[Call], joined: Joined) -> None:
        self.running = []
        self._settler.watched.discard(self)
        try:
            self._take(future, calls, joined)
        except Exception:  # the edge, as in _flush
            logger.exception("A batch of %s failed.", calls[0].head.route.endpoint)
            self._give_up(calls)
        if self.pending and not self._scheduled:
            self._flush()

    def _take(self, future: Future[tuple[list[Array], float]], calls: list[Call], joined: Joined) -> None:
        try:
            outputs, run_s = future.result()
        except SignalboxError as error:
            self._fail(calls, error)
        else:
            # Who was told meanwhile that it is too late has got no answer, and none is logged.
            calls, joined, outputs = only([not call.done for call in calls], calls, joined, outputs)
            if calls:
                self._settler.settle(slot_of(calls), calls, joined, outputs, run_s)

    def _give_up(self, calls: list[Call]) -> None:
        self.running = []
        self._settler.watched.discard(self)
        for call in calls:
            self._settler.refuse(call, Failed("Signalbox failed on this request. The server's log has the details."))

    def _fail(self, calls: list[Call], error: SignalboxError) -> None:
        """The model failed. In a batch one call's rows may be to blame, so each then runs alone, before what came later."""
        if len(calls) == 1:
            self._settler.refuse(calls[0], error)
            return
        for call in reversed(calls):
            call.alone = True
            self.pending.appendleft(call)


def slot_of(calls: list[Call]) -> Slot:
    """Give the slot that the calls were queued for."""
    slot = calls[0].slot
    if slot is None:
        raise ValueError("a call without a slot was queued")
    return slot


def _run_in_thread(build: OnnxBuild, joined: Joined, cells: Cells) -> tuple[list[Array], float]:
    return _timed_run(build, joined, cells.cells, cells.index())


def _timed_run(build: OnnxBuild, joined: Joined, cells: memoryview[int], cell: int) -> tuple[list[Array], float]:
    start = time.perf_counter()
    cells[cell] = build.mark
    try:
        outputs = build.run_split(joined.arrays, joined.rows)
    finally:
        cells[cell] = 0
    return outputs, time.perf_counter() - start


def only(kept: list[bool], calls: list[Call], joined: Joined, outputs: list[Array]) -> tuple[list[Call], Joined, list[Array]]:
    """Give what of a batch that has run belongs to the calls that are to be kept."""
    if all(kept) or not any(kept):
        return (calls if any(kept) else []), joined, outputs
    rows = np.repeat(kept, [call.rows for call in calls])
    given = {name: array[rows] for name, array in joined.given.items()}
    arrays = given if joined.arrays is joined.given else {name: array[rows] for name, array in joined.arrays.items()}
    flags = None if joined.flags is None else joined.flags[rows]
    some = replace(joined, given=given, arrays=arrays, flags=flags, rows=int(np.count_nonzero(rows)))
    return [call for call, keep in zip(calls, kept, strict=True) if keep], some, [output[rows] for output in outputs]


def _row_shapes(call: Call) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in call.arrays.items()}


def together(parts: list[Arrays]) -> Arrays:
    """Put the rows of several calls together; their row shapes must be the same."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
