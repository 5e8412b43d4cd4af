"""The limits of an endpoint: defaults from the start, changed by an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from core.errors import Conflict
from monitoring.errors import NoSuchEndpoint, WrongRule
from monitoring.models import Rule
from serving.models import Endpoint

RANGES: dict[str, tuple[float, float]] = {
    "alpha": (1e-6, 0.2),
    "minimum_psi": (0, 10),
    "minimum_ks": (0, 1),
    "severe_psi": (0.01, 10),
    "windows_in_a_row": (1, 20),
    "minimum_rows": (50, 10_000_000),
    "minimum_outcomes": (20, 10_000_000),
    "minimum_coverage": (0, 1),
    "accuracy_drop": (0, 1),
    "error_rise": (0, 100),
}
_WHOLE = {"windows_in_a_row", "minimum_rows", "minimum_outcomes"}
_MOST_MUTED = 1000


def rule_of(endpoint: str) -> Rule:
    """Give the endpoint's limits; the defaults, unsaved, when nobody changed them."""
    return Rule.objects.filter(endpoint=endpoint).first() or Rule(endpoint=endpoint)


def change_rule(*, actor: Actor, endpoint: str, changes: Mapping[str, Any], revision: int | None = None, reason: str = "") -> Rule:
    """Change limits of an endpoint, or ``muted_features`` (keys such as ``in.age``). They hold from the next evaluation.

    Raises NoSuchEndpoint, WrongRule for an unknown limit or one out of range, Conflict for a stale ``revision``.
    """
    require(actor, Right.MONITORING_EDIT, f"endpoint:{endpoint}")
    wanted = {name: _checked(name, value) for name, value in changes.items()}
    if not Endpoint.objects.filter(name=endpoint).exists():
        raise NoSuchEndpoint(f"There is no endpoint {endpoint}.")
    with transaction.atomic():
        Rule.objects.bulk_create([Rule(endpoint=endpoint)], ignore_conflicts=True)
        rule = Rule.objects.select_for_update().get(endpoint=endpoint)
        if revision is not None and rule.revision != revision:
            raise Conflict(f"The limits of {endpoint} were changed by {rule.updated_by} meanwhile. Nothing was overwritten; look at them and try again.")
        before = {name: getattr(rule, name) for name, value in wanted.items() if getattr(rule, name) != value}
        if not before:
            return rule
        for name in before:
            setattr(rule, name, wanted[name])
        rule.revision, rule.updated_at, rule.updated_by = rule.revision + 1, now(), actor.name
        rule.save()
        after = {name: wanted[name] for name in before}
        audit.record(actor=actor, verb="change rule", subject_kind="endpoint", subject_name=endpoint, before=before, after=after, reason=reason)
    return rule


def _checked(name: str, value: Any) -> Any:
    if name == "muted_features":
        if not isinstance(value, list) or len(value) > _MOST_MUTED or not all(isinstance(key, str) and len(key) <= 200 for key in value):
            raise WrongRule("muted_features must be a list of feature keys such as in.age. Nothing was changed.", field=name)
        return sorted(set(value))
    if name not in RANGES:
        raise WrongRule(f"There is no limit {name!r}: those that can be changed are {', '.join(RANGES)}, muted_features.", field=name)
    low, high = RANGES[name]
    whole = name in _WHOLE
    right_type = isinstance(value, int) if whole else isinstance(value, int | float)
    if isinstance(value, bool) or not right_type or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise WrongRule(f"{name} must be {kind} from {low:g} to {high:g}, not {value!r}. Nothing was changed.", field=name)
    return value if whole else float(value)
