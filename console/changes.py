"""From one routing state to another, slot by slot, as dialogs and the ledger show it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serving.traffic import RoutingState, SlotState


@dataclass(frozen=True, slots=True)
class SlotChange:
    """One slot: what it holds before and after (empty: nothing), and its share of the traffic in percent."""

    slot: str
    before: str
    after: str
    share_before: int
    share_after: int

    @property
    def refilled(self) -> bool:
        return self.before != self.after


def changes(before: RoutingState, after: RoutingState) -> list[SlotChange]:
    """Give every slot that holds something before or after."""
    names = sorted({slot.name for slot in (*before.slots, *after.slots)})
    rows = [_change(name, before, after) for name in names]
    return [row for row in rows if row.before or row.after]


def _change(name: str, before: RoutingState, after: RoutingState) -> SlotChange:
    old, new = before.slot(name), after.slot(name)
    return SlotChange(name, _title(before, old), _title(after, new), old.weight if old else 0, new.weight if new else 0)


def _title(state: RoutingState, slot: SlotState | None) -> str:
    return state.title(slot) if slot and slot.build_id else ""
