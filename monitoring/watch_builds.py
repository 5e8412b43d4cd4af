"""Alerts for builds that data-plane processes refuse to run, since running them has ended processes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from core.clock import now
from monitoring import incidents
from monitoring.incidents import Finding
from monitoring.models import Alert, Level
from monitoring.windows import lock_endpoint
from serving.models import Slot
from serving.queries.system import refused_builds


def watch_builds() -> None:
    """Open or update one alert per endpoint with a refused build; resolve those whose build is no longer refused. Safe to run twice at once."""
    refused = refused_builds()
    if refused is None:
        return  # nobody knows; what was found stays
    found: dict[str, list[Slot]] = {}
    for slot in Slot.objects.filter(build__digest__in=refused).select_related("endpoint", "build__version__model").order_by("-weight", "name"):
        found.setdefault(slot.endpoint.name, []).append(slot)
    unresolved = set(Alert.objects.filter(cause=Alert.Cause.CRASH).exclude(state=Alert.State.RESOLVED).values_list("endpoint", flat=True))
    for endpoint in sorted(unresolved | found.keys()):
        with transaction.atomic():
            lock_endpoint(endpoint)
            if endpoint in found:
                incidents.report(endpoint, _finding(found[endpoint], refused, now()))
            else:
                incidents.calm(endpoint, Alert.Cause.CRASH, now())


def _finding(slots: list[Slot], refused: dict[str, str], at: datetime) -> Finding:
    first = slots[0].build
    if first is None:  # the query asks for filled slots
        raise ValueError("a refused slot without a build")
    version = first.version
    items: list[dict[str, Any]] = [
        {
            "name": f"{slot.build.version} in {slot.name}: {refused[slot.build.digest]}",
            "key": "",
            "measure": "crashes",
            "value": None,
            "limit": None,
            "severity": Alert.Severity.SEVERE,
        }
        for slot in slots
        if slot.build is not None
    ]
    return Finding(
        cause=Alert.Cause.CRASH,
        model=version.model.name,
        version=version.number,
        severity=Alert.Severity.SEVERE,
        title=f"{version} ended data-plane processes and is out of service in {slots[0].name}",
        items=items,
        level=Level.FIVE_MINUTES,
        first_at=at,
        window_at=at,
        versions=tuple(sorted({(slot.build.version.model.name, slot.build.version.number) for slot in slots if slot.build is not None})),
    )
