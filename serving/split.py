"""Split the traffic: whole-percent shares of the slots, 100 in sum."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import Unprocessable
from serving import ledger
from serving.models import Endpoint
from serving.traffic import RoutingState, with_weights, wrong_with_split


def split(*, actor: Actor, endpoint: str, weights: Mapping[str, int], revision: int, reason: str = "") -> Endpoint:
    """Set the shares; slots that are not named get 0. The same shares again change nothing and write nothing.

    Raises Unprocessable for shares that do not sum to 100 or an empty slot, Overtaken for a stale ``revision``.
    """
    require(actor, Right.ENDPOINT_SPLIT, f"endpoint:{endpoint}")
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        before = ledger.state_of(row)
        _check(before, weights)
        after = with_weights(before, weights)
        if after != before:
            ledger.apply(row, before, after, actor)
            summary = f"Split set to {after.split_text()}"
            ledger.record(actor=actor, endpoint=row, verb="split", summary=summary, before=before, after=after, reason=reason)
    return row


def _check(state: RoutingState, weights: Mapping[str, int]) -> None:
    for name, weight in weights.items():
        slot = state.slot(name)
        if slot is None:
            raise Unprocessable(f"There is no slot {name}: the slots are {', '.join(other.name for other in state.slots)}. Nothing was changed.", slot=name)
        if weight and slot.build_id is None:
            raise Unprocessable(f"{name} is empty and cannot answer. Deploy a version to it first. Nothing was changed.", slot=name)
    wrong = wrong_with_split(weights)
    if wrong:
        raise Unprocessable(wrong)
