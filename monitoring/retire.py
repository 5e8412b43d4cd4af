"""What ends with an endpoint: its limits, references, calibration and standing at once; its alerts are closed."""

from __future__ import annotations

from django.db.models import F, Value
from django.db.models.functions import Concat, Left

from core.clock import now
from monitoring.models import Alert, Calibration, DriftResult, Fault, Outcome, PerformanceWindow, Reference, Rule, Standing, WindowProfile

MEASURED = (WindowProfile, DriftResult, PerformanceWindow, Outcome, Alert)
"""What tells what happened there: it stays, under the sealed name."""


def end_settings(endpoint: str) -> None:
    """End what was set and said of ``endpoint``, inside the transaction that deletes it."""
    for table in (Rule, Reference, Calibration, Standing, Fault):
        table.objects.filter(endpoint=endpoint).delete()
    Alert.objects.filter(endpoint=endpoint).exclude(state=Alert.State.RESOLVED).update(
        state=Alert.State.RESOLVED,
        resolved_at=now(),
        resolved_by="system",
        resolution="The endpoint was deleted.",
        revision=F("revision") + 1,
    )
    keys = Concat(Value("~"), Left("dedup_key", 149))  # so that no later alert goes on with one of these
    Alert.objects.filter(endpoint=endpoint).update(dedup_key=keys, waits_for_calm=False)
