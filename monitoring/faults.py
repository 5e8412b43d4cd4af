"""What keeps a version's traffic at an endpoint from being profiled or judged: kept, shown, and tried again later and later.

Nothing is lost meanwhile: its segments stay unprofiled and its windows dirty.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Q

from core.clock import now
from monitoring.models import Fault

FIRST_REST = timedelta(seconds=30)
LONGEST_REST = timedelta(minutes=10)

Subject = tuple[str, str, int]
"""Endpoint, model and number of the version. An empty endpoint: wherever the version answers."""


def note(part: Fault.Part, subject: Subject, error: Exception) -> None:
    """Keep what went wrong, and rest before the next try; each time twice as long, up to ten minutes."""
    endpoint, model, version = subject
    fault, _ = Fault.objects.get_or_create(part=part, endpoint=endpoint, model=model, version=version)
    fault.text = f"{type(error).__name__}: {error}".replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:300]
    fault.try_at = now() + min(FIRST_REST * 2 ** min(fault.tries, 10), LONGEST_REST)
    fault.tries = min(fault.tries + 1, 1000)
    fault.save()


def forget(endpoint: str, model: str, version: int) -> None:
    """Forget what was wrong: something changed, so the next try is at once."""
    Fault.objects.filter(endpoint__in=["", endpoint], model=model, version=version).delete()


def forget_worked(part: Fault.Part, subjects: Iterable[Subject]) -> None:
    """Forget the faults of what has worked. One query when there are none."""
    worked = set(subjects)
    for fault in Fault.objects.filter(part=part):
        if (fault.endpoint, fault.model, fault.version) in worked:
            fault.delete()


def resting(part: Fault.Part) -> Q:
    """Give the condition that holds for rows (with endpoint, model and version) whose fault waits for its next try."""
    found = Q(pk__in=[])
    for fault in Fault.objects.filter(part=part, try_at__gt=now()):
        found |= Q(endpoint=fault.endpoint, model=fault.model, version=fault.version)
    return found


def faults_of(endpoint: str) -> list[Fault]:
    """Give what is wrong at ``endpoint``, the oldest first. One query."""
    return list(Fault.objects.filter(endpoint=endpoint).order_by("since_at")[:20])
