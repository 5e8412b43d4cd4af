"""Answers kept in memory for rows that come again: one cache per slot and process, gone with its build.

The key is a keyed digest of the tensors as the caller sent them - names, types, shapes, bytes - so that
what is written differently but means the same is found, and nobody can make two requests meet.
All outputs are kept, whichever of them were asked for. What was refused or failed is never kept.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

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
    size_bytes: int


class AnswerCache:
    """Least recently used entries go first when ``policy.max_bytes`` is reached. Used by the event loop's thread alone."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.size_bytes = 0
        self._policy = made.policy
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

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
        return kept

    def put(self, key: bytes, outputs: list[Array], flags: Array | None, now: float) -> None:
        """Keep an answer. One that would fill more than an eighth of the room is not kept."""
        size = _ENTRY_BYTES + sum(_size_of(output) for output in outputs)
        if size > self._policy.max_bytes // 8:
            return
        if key in self._kept:
            self._forget(key)
        # Copies: a slice would keep the whole batch in memory.
        self._kept[key] = Kept([output.copy() for output in outputs], None if flags is None else flags.copy(), now + self._policy.ttl_s, size)
        self.size_bytes += size
        while self.size_bytes > self._policy.max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: bytes) -> None:
        self.size_bytes -= self._kept.pop(key).size_bytes


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
