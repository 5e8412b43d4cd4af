"""Answers kept in memory for rows that come again: one cache per slot and process, gone with its build.

The key is a keyed digest of the tensors as the caller sent them - names, types, shapes, bytes - so that
what is written differently but means the same is found, and nobody can make two requests meet.
All outputs are kept, whichever of them were asked for. What was refused or failed is never kept.
A cache has room of its own, and all caches of a process share one bound.
"""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple
from weakref import WeakSet

import numpy as np
import orjson

from serving.dataplane.batch import Joined, together
from serving.dataplane.call import Call
from serving.dataplane.tensors import Array
from serving.segments import FLAG_CACHE_HIT
from serving.table import BuildEntry, CachePolicy, ValidationPolicy

_SECRET = os.urandom(32)
_DIGEST_BYTES = 16
_ENTRY_BYTES = 800
"""What an entry costs beside its outputs."""


class Made(NamedTuple):
    """What the answers depend on beside the rows: a cache is used as long as this is the same."""

    build: BuildEntry
    validation: ValidationPolicy
    policy: CachePolicy


@dataclass(slots=True)
class Kept:
    """An answer: outputs and flags of its rows (None: no row has any)."""

    outputs: list[Array]
    flags: Array | None
    until: float
    used: float
    size_bytes: int


class Room:
    """Bounds what caches keep together: what has not been asked for longest goes first, whichever of them has it.

    ``size_bytes`` may be too large by what caches had that are gone with their slots; at the bound it is counted anew.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._caches: WeakSet[AnswerCache] = WeakSet()

    def enter(self, cache: AnswerCache) -> None:
        """Count a cache in, as long as it lives."""
        self._caches.add(cache)

    def keep_bound(self) -> None:
        """Make room if there is none: a sixteenth at once, since it looks at every cache."""
        if self.size_bytes <= self.max_bytes:
            return
        caches = list(self._caches)
        self.size_bytes = sum(cache.size_bytes for cache in caches)
        if self.size_bytes > self.max_bytes:
            while self.size_bytes > self.max_bytes - self.max_bytes // 16:
                min(caches, key=AnswerCache.oldest_use).forget_oldest()


ROOM = Room(64 * 2**20)
"""Of the caches of this process; its setting is read when the process starts."""


class AnswerCache:
    """Least recently used entries go first when ``policy.max_bytes`` or the room's bound is reached. Used by the event loop's thread alone."""

    def __init__(self, made: Made, room: Room = ROOM) -> None:
        self.made = made
        self.size_bytes = 0
        self._policy, self._room = made.policy, room
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        room.enter(self)

    def __len__(self) -> int:
        return len(self._kept)

    def key_of(self, call: Call) -> bytes:
        """Digest a call's rows; with ``private`` also who asks."""
        digest = blake2b(digest_size=_DIGEST_BYTES, key=_SECRET)
        if self._policy.private:
            digest.update((call.key_id or "").encode())
        for name, array in call.arrays.items():
            digest.update(f"\0{name}\0{array.dtype}{array.shape}\0".encode())
            digest.update(orjson.dumps(array.reshape(-1).tolist()) if array.dtype == np.object_ else np.ascontiguousarray(array).data)
        return digest.digest()

    def get(self, key: bytes, now: float) -> Kept | None:
        """Give what is kept under ``key`` and still holds; ``now`` is on the performance counter's clock."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until < now:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        kept.used = now
        return kept

    def put(self, key: bytes, outputs: list[Array], flags: Array | None, now: float) -> None:
        """Keep an answer. One that would fill more than an eighth of the room is not kept."""
        size = _ENTRY_BYTES + sum(_size_of(output) for output in outputs)
        if size > min(self._policy.max_bytes, self._room.max_bytes) // 8:
            return
        if key in self._kept:
            self._forget(key)
        # Copies: a slice would keep the whole batch in memory.
        self._kept[key] = Kept([output.copy() for output in outputs], None if flags is None else flags.copy(), now + self._policy.ttl_s, now, size)
        self.size_bytes += size
        self._room.size_bytes += size
        while self.size_bytes > self._policy.max_bytes:
            self.forget_oldest()
        self._room.keep_bound()

    def oldest_use(self) -> float:
        """Give when its least recently used entry was used; infinity if it has none."""
        return next(iter(self._kept.values())).used if self._kept else math.inf

    def forget_oldest(self) -> None:
        self._forget(next(iter(self._kept)))

    def _forget(self, key: bytes) -> None:
        size = self._kept.pop(key).size_bytes
        self.size_bytes -= size
        self._room.size_bytes -= size


def _size_of(output: Array) -> int:
    if output.dtype == np.object_:
        return sum(len(str(value)) + 60 for value in output.reshape(-1).tolist())
    return int(output.nbytes)


def joined(calls: list[Call], kept: list[Kept]) -> tuple[Joined, list[Array]]:
    """Put answers that were found together, as if their rows had run in one batch."""
    rows = sum(call.rows for call in calls)
    flags = np.full(rows, FLAG_CACHE_HIT, np.int32)
    start = 0
    for call, each in zip(calls, kept, strict=True):
        if each.flags is not None:
            flags[start : start + call.rows] |= each.flags
        start += call.rows
    given = together([call.arrays for call in calls])
    outputs = kept[0].outputs if len(kept) == 1 else [np.concatenate(column) for column in zip(*(each.outputs for each in kept), strict=True)]
    return Joined(given, given, flags, rows, time.perf_counter(), from_cache=True), outputs


def may_join(calls: list[Call], kept: list[Kept]) -> bool:
    """Tell whether the rows of ``calls`` have one shape, inputs and outputs."""
    shapes = [
        ({name: array.shape[1:] for name, array in call.arrays.items()}, [output.shape[1:] for output in each.outputs])
        for call, each in zip(calls, kept, strict=True)
    ]
    return shapes.count(shapes[0]) == len(shapes)
