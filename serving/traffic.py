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
    """Everything that decides what an endpoint answers; what the ledger keeps before and after.

    Not ``loaded``, it answers nothing, whatever its slots hold.
    """

    live_slot: str
    slots: tuple[SlotState, ...]
    loaded: bool = True

    def slot(self, name: str) -> SlotState | None:
        """Give the slot of that name, or None."""
        return next((slot for slot in self.slots if slot.name == name), None)

    @property
    def answering(self) -> tuple[tuple[str, int], ...]:
        """What answers while it is loaded: (build id, share) of every slot with traffic, in order of the build ids."""
        return tuple(sorted((slot.build_id, slot.weight) for slot in self.slots if slot.build_id and slot.weight))

    @property
    def is_steady(self) -> bool:
        """One build answers everything."""
        return len(self.answering) == 1

    def title(self, slot: SlotState) -> str:
        """What people call the version in ``slot``: ``v13``, or ``churn v13`` when several models are in the slots."""
        models = {other.model for other in self.slots if other.build_id}
        return f"v{slot.version}" if len(models) <= 1 else f"{slot.model} v{slot.version}"

    def split_text(self) -> str:
        """Give ``v12 90 %, v13 10 %``: the slots with traffic, heaviest first."""
        parts = sorted((slot for slot in self.slots if slot.weight), key=lambda slot: (-slot.weight, slot.name))
        return ", ".join(f"{self.title(slot)} {slot.weight} %" for slot in parts)


def with_weights(state: RoutingState, weights: Mapping[str, int]) -> RoutingState:
    """Give ``state`` with new shares; slots that are not named get 0.

    A slot that gets everything is the live one; the live one that loses everything hands over to the
    heaviest. What has traffic is no shadow.
    """
    slots = tuple(msgspec.structs.replace(slot, weight=weights.get(slot.name, 0), shadow=slot.shadow and not weights.get(slot.name, 0)) for slot in state.slots)
    heaviest = max(slots, key=lambda slot: slot.weight, default=None)
    live = state.live_slot
    if heaviest and heaviest.weight and (heaviest.weight == PERCENT or not weights.get(live, 0)):
        live = heaviest.name
    return msgspec.structs.replace(state, live_slot=live, slots=slots)


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
