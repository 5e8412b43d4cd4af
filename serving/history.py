"""Which earlier state a roll back applies: the ledger read like an editor's undo history. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from serving.traffic import RoutingState


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger row: the endpoint's revision after it, the state after it, and what it restored if it is a roll back."""

    revision: int
    state: RoutingState
    restores: int | None = None


def undo_stack(rows: Sequence[Past]) -> list[Past]:
    """Give the rows, oldest first, that roll backs have not undone.

    A roll back to a row of the stack takes off everything above that row. One to a row that had
    been undone counts as a change of its own.
    """
    stack: list[Past] = []
    for row in rows:
        kept = [past for past in stack if row.restores is not None and past.revision <= row.restores]
        if kept and kept[-1].revision == row.restores:
            stack = kept
        else:
            stack.append(row)
    return stack


def target_of_roll_back(rows: Sequence[Past], now: RoutingState, exists: Callable[[str], bool]) -> Past | None:
    """Give the latest row, not undone, after which one build answered everything and not what answers now.

    ``exists`` tells whether the build of that id is still there; rows of deleted builds are passed over.
    """
    for past in reversed(undo_stack(rows)):
        state = past.state
        if state.is_steady and state.answering != now.answering and exists(state.answering[0][0]):
            return past
    return None
