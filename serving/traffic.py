"""Arithmetic of traffic: whole-percent splits, the choice of a slot, the routing state. Pure.

The choice is weighted rendezvous hashing (Mosharaf and others; Schindelhauer and Schomaker 2005,
"Weighted distributed hash tables"): each slot scores ``-weight / ln(u)`` with ``u`` uniform from a
hash of the sticky key and the slot's name, and the highest score answers. Raising one slot's share
only ever moves callers to that slot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import xxhash

PERCENT = 100
_SPAN = float(1 << 53)


class SlotState(msgspec.Struct, frozen=True, kw_only=True):
    """One slot in a routing state; ``build_id`` is None when the slot is empty."""

    name: str
    build_id: str | None = None
    model: str | None = None
    version: int | None = None
    build_kind: str | None = None
    weight: int = 0
    shadow: bool = False


class RoutingState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what an endpoint answers; what the ledger keeps before and after."""

    live_slot: str
    slots: tuple[SlotState, ...]

    def slot(self, name: str) -> SlotState | None:
        """Give the slot of that name, or None."""
        return next((slot for slot in self.slots if slot.name == name), None)


def wrong_with_split(weights: Mapping[str, int]) -> str:
    """Say what is wrong with a split, or give the empty string."""
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= PERCENT:
            return f"{name}: a whole number from 0 to 100, not {weight!r}. Nothing was changed."
    total = sum(weights.values())
    if total != PERCENT:
        return f"The parts add up to {total} %, not 100 %. Nothing was changed."
    return ""


def choose(sticky_key: bytes, slots: Sequence[tuple[str, int]]) -> int:
    """Give the index of the slot that answers ``sticky_key``; ``slots`` are (name, weight), weight 0 to 100.

    Weights of 0 are never chosen. Raises ValueError when no slot has weight.
    """
    best, best_score = -1, -1.0
    for index, (name, weight) in enumerate(slots):
        if weight == PERCENT:
            return index
        if weight <= 0:
            continue
        seed = xxhash.xxh3_64_intdigest(name.encode())
        uniform = ((xxhash.xxh3_64_intdigest(sticky_key, seed) >> 11) + 0.5) / _SPAN
        score = -weight / math.log(uniform)
        if score > best_score:
            best, best_score = index, score
    if best < 0:
        raise ValueError("no slot has traffic")
    return best
