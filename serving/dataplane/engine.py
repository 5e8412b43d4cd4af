"""The engine: key, limits, decoding, choice of a slot, batch, answer, log. Knows no transport; one per process.

Everything here runs in the event loop's thread. A transport makes a ``Call`` and gets its answer by
``call.reply``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from core.errors import SignalboxError
from serving.dataplane import bodies, cache, keys, shared_memory
from serving.dataplane.batch import Batch, Batcher, Expiring, Joined, only, slot_of
from serving.dataplane.cache import AnswerCache, Kept
from serving.dataplane.call import JSON, Call, Head, Headers
from serving.dataplane.copying import Copying
from serving.dataplane.counts import LoopLag, RefusedCounts, TrafficCounts
from serving.dataplane.crashes import Cells
from serving.dataplane.errors import Busy, Failed, Late, Unknown
from serving.dataplane.forms import FORMS
from serving.dataplane.ids import IdMaker, text_of
from serving.dataplane.limits import Accounts
from serving.dataplane.live import BATCH_BUCKETS, EndpointState, Routes, Slot, SlotStats
from serving.dataplane.log import PredictionLog
from serving.dataplane.observing import Observing
from serving.dataplane.problems import body_of, headers_of
from serving.dataplane.regions import Regions
from serving.dataplane.shared_memory import Aimed, Lacking
from serving.dataplane.tensors import Array
from serving.dataplane.watch import Watcher
from serving.latency import bucket_of
from serving.segments import FLAG_DEMO, FLAG_FILLED, FLAG_OUT_OF_BOUNDS, FLAG_UNSEEN_CATEGORY
from serving.table import KeyEntry, RouteTable

logger = logging.getLogger(__name__)


class _Aim(NamedTuple):
    """An answer, and what of it has to be in shared memory before it goes out; ``rows`` are its rows in the batch."""

    call: Call
    aimed: Aimed
    headers: Headers
    body: bytes
    rows: slice


Answered = tuple[list[tuple[Call, Headers, bytes]], list[_Aim]]
"""What a batch is answered with: at once, and when it is written."""
_WATCH_S = 0.05
UNVETTED_BYTES = 65_536
"""A larger body is kept only once its key is known to be good."""
_LARGEST_BODY_BYTES = 64 * 2**20
_SHADOW_BACKLOG = 1000
_SHADOW_BACKLOG_ROWS = 50_000
"""A shadow that cannot keep up holds the rows of its copies in memory."""
_IN_DOUBT = FLAG_OUT_OF_BOUNDS | FLAG_UNSEEN_CATEGORY | FLAG_FILLED
_UNKNOWN = "Request for unknown model: '{}' is not found"


class Engine:
    """``routes`` is what answers; it is replaced as a whole by ``adopt``."""

    def __init__(self, log: PredictionLog, counts: TrafficCounts, loop: asyncio.AbstractEventLoop, cells: Cells | None = None) -> None:
        self.log, self.counts = log, counts
        self.routes: Routes | None = None
        self.draining = False
        self.watcher: Watcher | None = None
        self.observing: Observing
        self.regions = Regions(None)
        self.stats: dict[tuple[str, str, str], SlotStats] = {}
        self.refusals, self.loop_lag = RefusedCounts(), LoopLag()
        self.watched: set[Expiring] = set()
        self.cells = Cells() if cells is None else cells
        self._loop = loop
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="heavy-build")
        self.accounts = Accounts(counts.process)
        self._make_id = IdMaker().make
        self._found: dict[int, list[tuple[Call, Kept]]] = {}
        self._copying = Copying(self, loop)
        self._watch()

    @property
    def is_ready(self) -> bool:
        return self.routes is not None and not self.draining

    def adopt(self, routes: Routes) -> None:
        """Answer from ``routes`` from now on. Calls in flight finish in the slots that took them."""
        for endpoint in routes.endpoints.values():
            for slot in endpoint.slots:
                slot.table_revision = routes.revision
                if not hasattr(slot, "batcher"):
                    slot.batcher = Batcher(slot, self, self._loop, self._threads)
                    slot.stats = self.stats.setdefault((endpoint.name, slot.name, slot.version), SlotStats())
                    slot.checks.actions = slot.stats.actions
                    if slot.made.policy.ttl_s > 0 and not slot.shadow:
                        slot.cache = self._cache_of(slot)
        self.routes = routes

    def drain(self) -> None:
        """Take readiness away; answers from now on end their connections, and being killed is no build's fault."""
        self.draining = True
        self.cells.begin_to_end()

    def last_uses(self) -> dict[str, float]:
        """Give when each build has answered last, by digest, in seconds since 1970. For any thread."""
        found: dict[str, float] = {}
        for endpoint in self.routes.endpoints.values() if self.routes else ():
            for slot in endpoint.slots:
                found[slot.entry.digest] = max(found.get(slot.entry.digest, 0.0), slot.stats.last_ms / 1000)
        return found

    def _cache_of(self, slot: Slot) -> AnswerCache:
        """Give the cache that the slot had in the table before if its answers are still right, else an empty one."""
        endpoint = self.routes.endpoints.get(slot.endpoint_name) if self.routes else None
        for old in endpoint.slots if endpoint else ():
            if old.cache is not None and old.name == slot.name and old.cache.made == slot.made:
                return old.cache
        return AnswerCache(slot.made)

    def body_limit(self, endpoint: str) -> int:
        """Give how many bytes of a body a transport should read for ``endpoint`` before its key is known."""
        state = self.routes.endpoints.get(endpoint) if self.routes else None
        return state.limits.max_body_bytes if state else _LARGEST_BODY_BYTES

    def submit(self, call: Call) -> None:
        """Take a call; its ``reply`` is called once, now or later."""
        try:
            self._take(call)
        except SignalboxError as error:
            if "feature" in error.detail and call.endpoint is not None:  # no slot is chosen yet: the one that read the rows counts it
                call.endpoint.candidates(call.head.route.version)[0].checks.count_refused(error)
            self.refuse(call, error)
        except Lacking as lacking:
            self._fetch(call, lacking)
        except Exception:  # the edge: one call's failure must not reach another
            logger.exception("A call to %s failed.", call.head.route.endpoint)
            self.refuse(call, Failed("Signalbox failed on this request. The server's log has the details."))

    def authorize(self, authorization: bytes | None, api_key: bytes | None) -> KeyEntry:
        """Give the key of a request; raises Unauthorized, or Busy before the first route table."""
        return self._routes().keys.check(authorization, api_key)

    def table(self) -> RouteTable:
        """Give the table that is answered from; raises Busy before the first."""
        return self._routes().table

    def _routes(self) -> Routes:
        if self.routes is None:
            raise Busy("The data plane has no route table yet. Try again in a moment.")
        return self.routes

    def _take(self, call: Call) -> None:
        head, routes = call.head, self._routes()
        if head.token is not routes.token:
            self._recognise(head, routes)
        key, endpoint = head.key, routes.endpoints[head.route.endpoint]
        if key.expires_at is not None:
            keys.require_fresh(key)
        call.endpoint, call.key_id = endpoint, key.id
        if call.copied is None:  # else it was admitted before its tensors were copied
            self._admit(call, endpoint)
            call.id = self._make_id(call.received_us)
        slot = FORMS[head.route.form](call, endpoint)
        if self.watcher is not None:
            self.watcher.decoded(call)
        head.account.charge(call.rows, call.received_us)
        endpoint.flight.calls += 1
        head.account.in_flight += 1
        call.counted = True
        if slot.cache is None or not self._find(call, slot, slot.cache):
            slot.batcher.add(call)
        if endpoint.shadows:
            self._add_shadows(call, endpoint, slot)

    def _fetch(self, call: Call, lacking: Lacking) -> None:
        """Have a call's tensors copied out of shared memory, and take it again. Meanwhile it is one in flight, of no rows yet."""
        head, endpoint = call.head, call.endpoint
        if endpoint is None:
            raise ValueError("a call was read before its endpoint was found")
        try:
            head.account.charge(0, call.received_us)
        except SignalboxError as error:
            self.refuse(call, error)
            return
        endpoint.flight.calls += 1
        head.account.in_flight += 1
        call.counted = True

        def go_on(error: SignalboxError | None) -> None:
            endpoint.flight.calls -= 1
            head.account.in_flight -= 1
            head.account.refund(0, call.received_us)
            call.counted = False
            if error is None:
                self.submit(call)
            else:
                self.refuse(call, error)

        self._copying.begin(call, partial(shared_memory.copy_in, call, lacking.lying), go_on, has_run=False)

    def _find(self, call: Call, slot: Slot, answers: AnswerCache) -> bool:
        """Answer a call from the cache at the end of this turn, if it can be."""
        call.cache_key = answers.key_of(call)
        kept = answers.get(call.cache_key, call.received)
        if kept is None:
            slot.stats.cache_misses += 1
            return False
        if not self._found:
            self._loop.call_soon(self._settle_found)
        self._found.setdefault(id(slot), []).append((call, kept))
        return True

    def _settle_found(self) -> None:
        found, self._found = self._found, {}
        for group in found.values():
            calls, kept = [call for call, _ in group], [each for _, each in group]
            parts = [(calls, kept)] if slot_of(calls).spec.batched and cache.may_join(calls, kept) else [([call], [each]) for call, each in group]
            for some_calls, some_kept in parts:
                try:
                    self.settle(slot_of(some_calls), some_calls, *cache.joined(some_calls, some_kept), run_s=0.0)
                except Exception:  # the edge, as in submit
                    logger.exception("Answers of %s from the cache failed.", some_calls[0].head.route.endpoint)
                    for call in some_calls:
                        self.refuse(call, Failed("Signalbox failed on this request. The server's log has the details."))

    def _recognise(self, head: Head, routes: Routes) -> None:
        """Check the key of a head that is new to this route table; raises Unauthorized, Denied or Unknown."""
        name = head.route.endpoint
        key = routes.keys.check(head.authorization, head.api_key)
        keys.require_predict(key, name)
        if name not in routes.endpoints:
            raise Unknown(_UNKNOWN.format(name))
        endpoint = routes.endpoints[name]
        head.key, head.account, head.regions = key, self.accounts.of(key), self.regions
        head.rate, head.bounds = self.accounts.rate_at(name, endpoint.limits, key), endpoint.bounds_for(key)
        head.token = routes.token

    def _admit(self, call: Call, endpoint: EndpointState) -> None:
        head, bounds = call.head, call.head.bounds
        if endpoint.flight.calls >= endpoint.limits.max_concurrency:  # before the rates: who is told to try again has not used them
            raise Busy(f"'{endpoint.name}' is busy with {endpoint.flight.calls} requests in this process, its limit. Try again in a second.")
        if head.account.is_limited:
            head.account.admit(call.received)
        if head.rate is not None:
            head.rate.take(call.received)
        if len(call.body) > bounds.body_bytes:
            bounds.require_size(len(call.body))
        call.deadline = call.received + bounds.timeout_s
        if head.encoding:
            call.body = bodies.unpack(call.body, head.encoding, bounds.body_bytes, bounds.body_bytes_of)

    def _add_shadows(self, call: Call, endpoint: EndpointState, slot: Slot) -> None:
        for shadow in endpoint.shadows:
            if shadow is not slot and shadow.spec.inputs == slot.spec.inputs:
                self._add_shadow(call, shadow)

    def _add_shadow(self, call: Call, slot: Slot) -> None:
        """Copy a call to a shadow slot, unless that slot cannot keep up."""
        waiting = len(slot.batcher.pending)
        if waiting < _SHADOW_BACKLOG and waiting * call.rows < _SHADOW_BACKLOG_ROWS:
            slot.batcher.add(call.shadow_of(slot))

    def settle(self, slot: Slot, calls: list[Call], joined: Joined, outputs: list[Array], run_s: float) -> None:
        """Answer the calls of a batch that has run, count them and hand them to the log."""
        now = time.perf_counter()
        answered = _rendered(slot, calls, outputs)
        _add_run(slot.stats, calls, joined, run_s)
        if self.watcher is not None:
            self.watcher.settled(calls, joined, now, run_s)
        if slot.cache is not None and not joined.from_cache:
            _keep(slot.cache, slot.spec.batched, calls, joined, outputs)
        batch = self._batch(slot, calls, joined, outputs, now) if slot.log_policy != "off" else None
        if batch is not None and slot.log_policy == "durable":
            self.log.append(slot, batch, partial(self._written, slot, calls, joined, answered))
            return
        if batch is not None:
            self.log.append(slot, batch)
        answers, aims = answered
        if aims:
            calls, joined = self._write(slot, calls, joined, aims)
        if calls:
            self._count_answered(slot, calls, joined, now)
        for call, headers, body in answers:
            self._answer(call, 200, headers, body)

    def _write(self, slot: Slot, calls: list[Call], joined: Joined, aims: list[_Aim]) -> tuple[list[Call], Joined]:
        """Have outputs written into shared memory, and their calls counted and answered when they are there. Gives the rest of the batch."""
        for aim in aims:
            part = replace(joined, flags=None if joined.flags is None else joined.flags[aim.rows], rows=aim.call.rows)
            self._copying.begin(aim.call, aim.aimed.write, partial(self._end, slot, part, aim), has_run=True)
        aimed = {aim.call for aim in aims}
        calls, joined, _ = only([call not in aimed for call in calls], calls, joined, [])
        return calls, joined

    def _end(self, slot: Slot, part: Joined, aim: _Aim, error: SignalboxError | None) -> None:
        """An answer's outputs are in shared memory, or are not. It has run, and is in the log."""
        if error is not None:
            self.refuse(aim.call, error, has_run=True)
            return
        self._count_answered(slot, [aim.call], part, time.perf_counter())
        self._answer(aim.call, 200, aim.headers, aim.body)

    def _count_answered(self, slot: Slot, calls: list[Call], joined: Joined, now: float) -> None:
        counts, stats = self.counts.of(slot.endpoint_name, slot.name, slot.entry.version), slot.stats
        latency, sum_us = counts.latency, 0.0
        for call in calls:
            latency_us = (now - call.received) * 1e6
            latency[bucket_of(latency_us)] += 1
            sum_us += latency_us
        stats.success_us += sum_us
        stats.queue_us += sum_us - len(calls) * (now - joined.begun) * 1e6
        stats.success_count += len(calls)
        stats.rows += joined.rows
        stats.last_ms = calls[-1].received_us // 1000
        counts.requests += len(calls)
        counts.rows += joined.rows
        if joined.flags is not None:
            counts.flagged += int(np.count_nonzero(joined.flags & _IN_DOUBT))
        if joined.from_cache:
            counts.cache_hits += len(calls)

    def _batch(self, slot: Slot, calls: list[Call], joined: Joined, outputs: list[Array], now: float) -> Batch | None:
        """Make what is logged of a batch; with the policy ``sampled`` only the share that the ids' hash chooses."""
        if slot.log_policy == "sampled":
            kept = [_is_sampled(call.id, slot.log_share) for call in calls]
            if not any(kept):
                return None
            calls, joined, outputs = only(kept, calls, joined, outputs)
        flags = joined.flags
        if calls[0].head.demo or (len(calls) > 1 and any(call.head.demo for call in calls)):
            flags = (0 if flags is None else flags) | np.repeat(
                np.array([FLAG_DEMO if call.head.demo else 0 for call in calls], np.int32), [call.rows for call in calls]
            )
        logged = [
            (call.id, call.rows, call.received_us, int((now - call.received) * 1e6), call.request_id or call.head.request_id, call.key_id) for call in calls
        ]
        return Batch(joined.given, outputs, flags, logged)

    def _written(self, slot: Slot, calls: list[Call], joined: Joined, answered: Answered, safe: bool) -> None:
        """Called in the log's thread: the durable batch is safe, or cannot be made so."""
        self._loop.call_soon_threadsafe(self._answer_written, slot, calls, joined, answered, safe)

    def _answer_written(self, slot: Slot, calls: list[Call], joined: Joined, answered: Answered, safe: bool) -> None:
        answers, aims = answered
        if not safe:
            error = Busy("The prediction could not be logged, and this endpoint answers only what is logged. The server's disk may be full.")
            for call in [*(call for call, _, _ in answers), *(aim.call for aim in aims)]:
                self.refuse(call, error)
            return
        if aims:
            calls, joined = self._write(slot, calls, joined, aims)
        if calls:
            self._count_answered(slot, calls, joined, time.perf_counter())
        for call, headers, body in answers:
            self._answer(call, 200, headers, body)

    def refuse(self, call: Call, error: SignalboxError, *, has_run: bool = False) -> None:
        """Answer a call with an error, and count it: the caller's mistakes and ours apart.

        ``has_run``: only the answer found no place. It is in the log, its rows stay used, and the slot is not to blame.
        """
        if call.done:
            return
        slot = call.slot
        if call.counted and not has_run:
            call.head.account.refund(call.rows, call.received_us)
        name = call.endpoint.name if call.endpoint else ""
        latency_us = (time.perf_counter() - call.received) * 1e6
        if call.reply is not None or error.status >= 500:  # a shadow's copy that is refused is nobody's mistake: the caller's own is, by itself
            counted = (name, slot.name, slot.entry.version) if slot and error.status >= 500 and not has_run else (name, "", 0)
            self.refusals.add(counted, error, latency_us)
            counts = self.counts.of(*counted)
            counts.requests += 1
            counts.refused += error.status < 500
            counts.errors += error.status >= 500
            counts.add_latency(latency_us)
        if slot is not None:
            slot.stats.fail_count += 1
            slot.stats.fail_us += latency_us
        if error.status >= 500 and error.__cause__ is not None:
            logger.warning("%s: %s", name, error.message)
        self._answer(call, error.status, JSON + headers_of(error), body_of(error))

    def count_refusal(self, error: SignalboxError) -> None:
        """Count an answer that is an error and no prediction's: under no endpoint, and in no window of the traffic."""
        self.refusals.add(("", "", 0), error, 0.0)

    def refusal_of(self, head: Head, size: int) -> SignalboxError | None:
        """Say, before a large body is kept, why it would be refused: the key, the endpoint, its size; None if nothing speaks against it."""
        try:
            self._recognise(head, self._routes())
            head.bounds.require_size(size)
        except SignalboxError as error:
            return error
        return None

    def refuse_unread(self, call: Call, error: SignalboxError) -> None:
        """Refuse a call whose body a transport has not kept."""
        if self.routes is not None:
            call.endpoint = self.routes.endpoints.get(call.head.route.endpoint)
        self.refuse(call, error)

    def expire(self, call: Call, now: float, *, has_run: bool = False) -> bool:
        """Answer 504 if the deadline has passed; tells whether the call needs no run (any more)."""
        if not call.done and now > call.deadline:
            late = Late(f"'{call.head.route.endpoint}' did not answer in time. Send fewer rows, or raise {call.head.bounds.timeout_of} timeout.")
            self.refuse(call, late, has_run=has_run)
        return call.done

    def _answer(self, call: Call, status: int, headers: Headers, body: bytes) -> None:
        if call.done:
            return
        call.done = True
        if call.counted and call.endpoint is not None:
            call.endpoint.flight.calls -= 1
            call.head.account.in_flight -= 1
        if call.reply is None:
            return
        if call.head.accept_encoding and len(body) >= bodies.COMPRESS_FROM_BYTES:
            body, encoding = bodies.pack(body, call.head.accept_encoding)
            if encoding:
                headers += b"content-encoding: %b\r\n" % encoding
        if call.head.request_id is not None or status >= 400:
            call.id = call.id or self._make_id(call.received_us)
            headers += b"x-request-id: %b\r\n" % (call.head.request_id.encode() if call.head.request_id else text_of(call.id))
        call.reply(status, headers, body)
        if self.watcher is not None:
            self.watcher.answered(call, status, len(body))

    def _watch(self) -> None:
        """Answer 504 in time for calls behind a run that takes longer than their deadline, also in slots that were replaced."""
        self.loop_lag.add(self._loop.time(), _WATCH_S)
        self._loop.call_later(_WATCH_S, self._watch)
        now = time.perf_counter()
        for each in list(self.watched):
            each.expire(now)

    def close(self) -> None:
        """End the threads of heavy builds and of shared memory."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.regions.close()


def _rendered(slot: Slot, calls: list[Call], outputs: list[Array]) -> Answered:
    """Give the answers; a shadow's calls have none."""
    if slot.spec.batched and _are_plain(calls):
        return slot.answers.one_row_each(calls, outputs), []
    answers, aims = [], []
    start = 0
    for call in calls:
        stop = start + call.rows if slot.spec.batched else None
        render = call.render
        if isinstance(render, Aimed):
            aims.append(_Aim(call, render, *render(call, outputs, start, stop), slice(start, stop)))
        elif render is not None:
            answers.append((call, *render(call, outputs, start, stop)))
        start += call.rows
    return answers, aims


def _add_run(stats: SlotStats, calls: list[Call], joined: Joined, run_s: float) -> None:
    if joined.from_cache:
        stats.cache_hits += len(calls)
        stats.cached_rows += joined.rows
    else:
        stats.batches += 1
        stats.batch_rows[min((joined.rows - 1).bit_length(), BATCH_BUCKETS - 1)] += 1
        stats.run_us += run_s * 1e6


def _keep(answers: AnswerCache, batched: bool, calls: list[Call], joined: Joined, outputs: list[Array]) -> None:
    """Keep each call's rows of a batch that has run."""
    start, now = 0, time.perf_counter()
    for call in calls:
        stop = start + call.rows if batched else None
        answers.put(call.cache_key, [output[start:stop] for output in outputs], None if joined.flags is None else joined.flags[start:stop], now)
        start += call.rows


def _are_plain(calls: list[Call]) -> bool:
    return False not in [call.is_plain for call in calls]  # half the cost of all() with a generator


def _is_sampled(identifier: bytes, share: float) -> bool:
    """Choose by the id's last 32 random bits, so that every process and a later reader choose alike."""
    return int.from_bytes(identifier[-4:], "big") < share * 2**32
