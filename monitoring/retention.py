"""How long windows are kept: five minutes for a week, hours for three months, days for good."""

from __future__ import annotations

from datetime import timedelta

from core.clock import now
from monitoring.models import DriftResult, Level, PerformanceWindow, WindowProfile

KEPT = {Level.FIVE_MINUTES: timedelta(days=7), Level.HOUR: timedelta(days=92)}


def delete_old() -> int:
    """Delete windows past their time; gives how many. Day windows stay."""
    deleted = 0
    for level, kept in KEPT.items():
        old = {"level": level, "start_at__lt": now() - kept}
        for rows in (WindowProfile.objects.filter(**old), DriftResult.objects.filter(**old), PerformanceWindow.objects.filter(**old)):
            deleted += rows.delete()[0]
    return deleted
