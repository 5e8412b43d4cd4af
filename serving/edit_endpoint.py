"""Edit an endpoint: its description, what keeps callers on one slot, what is logged and masked, its policies, limits and cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import Invalid
from serving import ledger
from serving.masking import checked_masked_inputs, require_change
from serving.models import Endpoint
from serving.policies import checked_cache, checked_limits, checked_log_policy, checked_log_share, checked_validation

_CHECKS: dict[str, Callable[[Any], Any]] = {
    "description": str,
    "sticky_on": str,
    "log_policy": checked_log_policy,
    "log_share": checked_log_share,
    "masked_inputs": checked_masked_inputs,
    "validation": checked_validation,
    "limits": checked_limits,
    "cache": checked_cache,
    "tags": dict,
}


def edit_endpoint(*, actor: Actor, endpoint: str, changes: Mapping[str, Any], revision: int | None = None, reason: str = "") -> Endpoint:
    """Change the named settings; ``changes`` may hold description, sticky_on, log_policy, log_share, masked_inputs,
    validation, limits, cache, tags.

    Settings that stay as they are write nothing. Raises Invalid for an unknown or wrong setting, Forbidden for
    taking a mask off without the right to unmask, Overtaken for a stale ``revision``.
    """
    require(actor, Right.ENDPOINT_EDIT, f"endpoint:{endpoint}")
    wanted = {name: _checked(name, value) for name, value in changes.items()}
    with transaction.atomic():
        row = ledger.lock(endpoint, revision)
        was = {name: getattr(row, name) for name, value in wanted.items() if getattr(row, name) != value}
        if not was:
            return row
        becomes = {name: wanted[name] for name in was}
        if "masked_inputs" in becomes:
            require_change(actor, row, becomes["masked_inputs"])
        for name, value in becomes.items():
            setattr(row, name, value)
        state = ledger.state_of(row)
        summary = _summary(becomes)
        ledger.record(actor=actor, endpoint=row, verb="edit", summary=summary, before=state, after=state, reason=reason, settings=(was, becomes))
    return row


def _checked(name: str, value: Any) -> Any:
    if name not in _CHECKS:
        raise Invalid(f"An endpoint has no setting {name!r}: those that can be edited are {', '.join(_CHECKS)}.", field=name)
    return _CHECKS[name](value)


def _summary(becomes: Mapping[str, Any]) -> str:
    text = ", ".join(_said(name.replace("_", " "), value) for name, value in becomes.items())
    return text[:1].upper() + text[1:]


def _said(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f"{name} set to {', '.join(value) or 'none'}"
    return f"{name} set to {value}" if isinstance(value, str | float) else f"{name} changed"
