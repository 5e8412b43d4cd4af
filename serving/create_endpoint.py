"""Create an endpoint: the address that clients call, with two empty slots, blue and green."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import Conflict, Invalid
from serving import ledger, seal
from serving.models import Endpoint, Slot
from serving.policies import checked_cache, checked_limits, checked_log_policy, checked_log_share, checked_validation

SLOTS = ("blue", "green")
RESERVED_NAMES = frozenset({"new", "stats"})
"""Taken in an address: ``/endpoints/new/`` makes one, ``GET /v2/models/stats`` tells of all."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?")


def create_endpoint(
    *,
    actor: Actor,
    name: str,
    description: str = "",
    sticky_on: str = "",
    log_policy: str = "fast",
    log_share: float = 1.0,
    validation: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Endpoint:
    """Create the endpoint; Invalid for a name that an address cannot have or has already, Conflict if it is taken or its log is still being sealed."""
    require(actor, Right.ENDPOINT_CREATE)
    endpoint = Endpoint(
        name=_checked_name(name),
        description=description,
        live_slot=SLOTS[0],
        sticky_on=sticky_on,
        log_policy=checked_log_policy(log_policy),
        log_share=checked_log_share(log_share),
        validation=checked_validation(validation or {}),
        limits=checked_limits(limits or {}),
        cache=checked_cache(cache or {}),
        tags=dict(tags or {}),
        created_by=actor.name,
    )
    with transaction.atomic():
        _insert(endpoint)
        seal.refuse_unsealed(name)
        Slot.objects.bulk_create(Slot(endpoint=endpoint, name=slot) for slot in SLOTS)
        state = ledger.state_of(endpoint)
        ledger.record(actor=actor, endpoint=endpoint, verb="create", summary=f"{name} created, empty", before=ledger.EMPTY, after=state)
    return endpoint


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Invalid(f"The name {name!r} cannot stand in an address: use 1 to 100 lower-case letters, digits and dashes, as in churn-scorer.", field="name")
    if name in RESERVED_NAMES:
        raise Invalid(f"The name {name!r} is an address of its own. Choose another name.", field="name")
    return name


def _insert(endpoint: Endpoint) -> None:
    try:
        with transaction.atomic():
            endpoint.save(force_insert=True)
    except IntegrityError as error:
        if "serving_endpoint_name" not in str(error):
            raise
        raise Conflict(f"There is an endpoint {endpoint.name} already. Choose another name, or deploy to that one.", field="name") from error
