"""Delete logged predictions after their retention, in batches small enough to hold no lock for long."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from core.clock import now
from serving.models import PredictionSegment

BATCH = 500
MOST_BATCHES = 200


def delete_old() -> int:
    """Delete the segments whose last prediction is older than the retention; gives how many. The next run takes what one leaves."""
    limit = now() - timedelta(days=settings.ENVIRONMENT.log_retention_days)
    deleted = 0
    for _ in range(MOST_BATCHES):
        ids = list(PredictionSegment.objects.filter(last_at__lt=limit).order_by("last_at").values_list("id", flat=True)[:BATCH])
        if not ids:
            break
        deleted += PredictionSegment.objects.filter(id__in=ids).delete()[0]
    return deleted
