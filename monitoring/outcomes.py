"""Take outcomes: the true values of rows that were predicted, whenever they come."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from access.actors import EVERYTHING, Actor
from access.permissions import require
from access.rights import Right
from monitoring.errors import WrongOutcomes
from monitoring.join_outcomes import forget, join, take_turn
from monitoring.models import Outcome, OutcomeBatch

MOST = 10_000
JOINED_AT_ONCE = 1000
_LONGEST_TEXT = 100
_VERSION_7 = 7


@dataclass(frozen=True, slots=True)
class OutcomeIn:
    """``value`` is the true label (text, whole number or boolean) or number; ``row`` is 0-based within the prediction."""

    prediction_id: str | UUID
    value: Any
    row: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """``index`` is the 0-based place in the delivery."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """How many were joined to their prediction, how many wait for it, how many cannot be used and why."""

    accepted: int
    parked: int
    refused: int
    errors: tuple[Refusal, ...] = field(default=())


def send_outcomes(*, actor: Actor, outcomes: Sequence[OutcomeIn]) -> Accepted:
    """Keep outcomes and join them to their predictions. The last value of a row wins; earlier ones stay as history.

    A value that is sent again changes nothing. One whose prediction is not in the log yet is parked
    and tried again for a week. Null is refused: an outcome that is not known yet is not sent.
    Raises WrongOutcomes when there are more than 10,000 or none.
    """
    endpoints = _allowed(actor)
    if not outcomes:
        raise WrongOutcomes("There are no outcomes. Send at least one.")
    if len(outcomes) > MOST:
        raise WrongOutcomes(f"One delivery holds at most {MOST:,} outcomes, not {len(outcomes):,}. Split it.")
    good, errors = _checked(outcomes)
    errors += _refuse_of_others(endpoints, good)
    if not good:
        return Accepted(0, 0, len(errors), tuple(sorted(errors, key=lambda error: error.index)))
    fresh = _keep(actor, endpoints, good)
    join(list(fresh.values())[:JOINED_AT_ONCE])
    states = dict(Outcome.objects.filter(id__in=[row.id for row in fresh.values()]).values_list("id", "state"))
    accepted = parked = 0
    for index, outcome in good.items():
        row = fresh.get((outcome.prediction_id, outcome.row))
        state = states.get(row.id) if row else Outcome.State.JOINED
        accepted += state == Outcome.State.JOINED
        parked += state == Outcome.State.PARKED
        if row and state == Outcome.State.REFUSED:
            errors.append(Refusal(index, Outcome.objects.values_list("refusal", flat=True).get(id=row.id)))
    return Accepted(accepted, parked, len(errors), tuple(sorted(errors, key=lambda error: error.index)))


def outcomes_of_csv(text: str) -> list[OutcomeIn]:
    """Read CSV with the columns ``prediction_id``, ``value`` and, if wanted, ``row``; raises WrongOutcomes."""
    reader = csv.DictReader(io.StringIO(text))
    names = [name.strip() for name in reader.fieldnames or []]
    if not {"prediction_id", "value"} <= set(names) or not set(names) <= {"prediction_id", "value", "row"}:
        raise WrongOutcomes(f"The first line of the CSV must name prediction_id, value and, if wanted, row; it is {', '.join(names)[:200] or 'empty'!r}.")
    reader.fieldnames = names
    found = []
    for line in reader:
        place = (line.get("row") or "0").strip()
        row = int(place) if place.isascii() and place.isdigit() and len(place) < 9 else -1
        found.append(OutcomeIn((line["prediction_id"] or "").strip(), (line["value"] or "").strip() or None, row))
        if len(found) > MOST:
            break
    return found


def _allowed(actor: Actor) -> list[str]:
    """Give the endpoints the actor may send for, empty for all; raises Forbidden if there is none."""
    if actor.may(Right.OUTCOMES_SEND):
        return []
    endpoints = [subject.removeprefix("endpoint:") for subject, rights in actor.rights.items() if subject != EVERYTHING and Right.OUTCOMES_SEND in rights]
    if not endpoints:
        require(actor, Right.OUTCOMES_SEND)
    return sorted(endpoints)


@dataclass(frozen=True, slots=True)
class _Good:
    prediction_id: UUID
    row: int
    value: str | int | float | bool


def _checked(outcomes: Sequence[OutcomeIn]) -> tuple[dict[int, _Good], list[Refusal]]:
    good: dict[int, _Good] = {}
    errors = []
    for index, outcome in enumerate(outcomes):
        identifier = _identifier(outcome.prediction_id)
        reason = wrong_with(outcome.value) or ("" if identifier else "prediction_id is not the id that a prediction was answered with (a UUIDv7).")
        if isinstance(outcome.row, bool) or not isinstance(outcome.row, int) or not 0 <= outcome.row < 2**31:
            reason = reason or "row must be a whole number from 0."
        if reason or identifier is None:
            errors.append(Refusal(index, reason))
        else:
            good[index] = _Good(identifier, outcome.row, outcome.value)
    return good, errors


def _refuse_of_others(endpoints: list[str], good: dict[int, _Good]) -> list[Refusal]:
    """Take out what would replace an outcome of an endpoint that the key is not for, or tell its value."""
    if not endpoints:
        return []
    joined = Outcome.objects.filter(current=True, state=Outcome.State.JOINED, prediction_id__in={item.prediction_id for item in good.values()})
    others = {(row.prediction_id, row.row): row.endpoint for row in joined.exclude(endpoint__in=endpoints)}
    places = [index for index, item in good.items() if (item.prediction_id, item.row) in others]
    return [Refusal(index, f"The key may not send outcomes of {others[item.prediction_id, item.row]}.") for index in places for item in [good.pop(index)]]


def _identifier(text: str | UUID) -> UUID | None:
    try:
        found = text if isinstance(text, UUID) else UUID(text)
    except (ValueError, AttributeError, TypeError):
        return None
    return found if found.version == _VERSION_7 else None


def wrong_with(value: Any) -> str:
    """Say what is wrong with a value, or give the empty string."""
    if value is None:
        return "value is missing (null). Send the outcome when it is known."
    if not isinstance(value, str | int | float | bool):
        return "value must be a text, a number or a boolean."
    if isinstance(value, float) and not math.isfinite(value):
        return "value must be finite."
    if isinstance(value, str) and (not value or len(value) > _LONGEST_TEXT or "\0" in value):
        return f"value must be a text of 1 to {_LONGEST_TEXT} characters."
    return "" if isinstance(value, str | bool) or abs(value) < 1e300 else "value is too large."


def _keep(actor: Actor, endpoints: list[str], good: dict[int, _Good]) -> dict[tuple[UUID, int], Outcome]:
    """Store what is new. One delivery at a time, so that of two values for a row the later really is the last."""
    with transaction.atomic():
        take_turn()
        last = {(outcome.prediction_id, outcome.row): outcome for outcome in good.values()}
        present = {(row.prediction_id, row.row): row for row in Outcome.objects.filter(current=True, prediction_id__in={key[0] for key in last})}
        changed = {key: outcome for key, outcome in last.items() if key not in present or present[key].value != outcome.value}
        if not changed:
            return {}
        batch = OutcomeBatch.objects.create(actor_id=actor.id, actor_name=actor.name, endpoints=endpoints, rows=len(changed))
        forget([present[key] for key in changed if key in present])
        rows = [Outcome(batch=batch, prediction_id=item.prediction_id, row=item.row, value=item.value) for item in changed.values()]
        Outcome.objects.bulk_create(rows, batch_size=1000)
    return {(row.prediction_id, row.row): row for row in rows}
